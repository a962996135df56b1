//! MEDS 0.4 in and out: `specs/clinical.md` section 1.1, after
//! Medical-Event-Data-Standard/meds `src/meds/schema.py`.

mod columns;
mod export;
mod extra;
mod read;
mod subjects;
#[cfg(test)]
mod tests;

pub use export::{Exported, export_meds};
pub use read::{MedsReader, read_meds};
pub use subjects::{MedsPart, MedsSubjects};
