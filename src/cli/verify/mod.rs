//! `verify`: walks topics and library of a site and proves invariants 1 to 4 on what is there.
//!
//! Changes nothing, and needs no daemon to stop. Promises to report a violation only where there is one by
//! the site as it is now: what was scored under other tasks or features, or normalized under other rules
//! and limits, is judged by today's. What retention has taken away is counted and not judged; where it would
//! be needed, `holds` is null.
//!
//! Memory: two bits an offset of the raw topics (0.25 MB a million records), some 25 MB a million
//! predictions, and the state of one partition of the log at a time. Everything else streams.

mod archive;
mod positions;
mod raw;
mod report;
mod rows;
mod scores;
mod state;
mod walk;

use std::time::Instant;

use serde::Serialize;

use self::positions::Positions;
use self::report::Invariant;
use self::walk::{Walk, tables};
use super::{CliError, SiteArgs, print, runtime, spinner};
use crate::kafka::{KafkaError, Survey};
use crate::library::Library;

#[derive(Serialize, Debug)]
struct Report {
    invariants: Vec<Invariant>,
    seconds: f64,
}

pub(super) fn run(args: &SiteArgs) -> Result<(), CliError> {
    let site = args.load()?;
    let started = Instant::now();
    let runtime = runtime()?;
    let survey = Survey::open(&site.settings)?;
    let topics = &site.settings.topics;
    let (found, wanted) = (survey.partitions(&topics.events) as usize, topics.partitions);
    if found != 0 && found != wanted as usize {
        return Err(KafkaError::Partitions { topic: topics.events.clone(), found, wanted }.into());
    }
    let bar = spinner("asking for positions");
    // In this order: what is archived by now is in what the topics are read for.
    let tables = runtime.block_on(tables(&Library::look(&site.settings.library)))?;
    let positions = Positions::ask(&survey, &site.settings)?;
    let invariants = Walk::new(&site, tables, &positions, runtime.handle().clone(), bar.clone()).run()?;
    bar.finish_and_clear();
    let broken: Vec<String> =
        invariants.iter().filter(|one| one.holds() == Some(false)).map(|one| one.number().to_string()).collect();
    print(&Report { invariants, seconds: started.elapsed().as_secs_f64() })?;
    if broken.is_empty() {
        return Ok(());
    }
    Err(CliError::Failed(format!("invariants that do not hold: {}; the report says where", broken.join(", "))))
}
