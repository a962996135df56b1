//! The five roles, one file each, and what runs beside them: the only rooms where stages meet.
//!
//! A role fixes one order of things: consume, transform, produce, commit. It promises to
//! leave nothing behind that is half done: after any error it starts again from what is
//! committed, and a stop ends it at a batch's border.

mod archive;
mod champions;
mod error;
mod lag;
mod letter;
mod link;
mod moves;
mod normalize;
mod past;
mod recover;
mod replay;
mod route;
mod runtime;
mod score;
mod serve;
mod site;
mod ticks;
mod train;

pub use error::RoleError;
pub use letter::Letter;
pub use recover::start;
pub use runtime::{Context, Role, run};
pub use serve::{ServeError, Server};
pub use site::Site;
pub use train::{announce, train_once};

use crate::events::Micros;
use crate::telemetry::clock_shift;

/// The wall clock. Roles ask it; what is below is told.
pub fn wall_now() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as Micros) + clock_shift()
}
