//! A sample of the subjects, where not all rows to fit on may be in memory at once.
//!
//! Promises whole subjects, drawn by a hash of pseudonym and seed: the same on every machine and however the
//! library is partitioned. Neither their outcomes nor how many rows they have has a say, so that nothing which is
//! calibrated on them needs a correction; and whoever uses a sample is told so.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::LearnError;
use super::matrix::{Rows, Source};
use super::task::Task;
use crate::events::SubjectId;
use crate::models::mix;

/// Sets the order of the draw apart from that of the folds with the same seed.
const SALT: u64 = 0x7361_6d70;

/// That not all rows were used.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Sampled {
    /// Rows that were.
    pub rows: usize,
    /// How many there were.
    pub of: usize,
}

impl Sampled {
    /// An error that may be due to a sample.
    pub(super) fn blame(sampled: Option<Sampled>, error: LearnError) -> LearnError {
        match sampled {
            Some(Sampled { rows, of }) => LearnError::Sampled { rows, of, error: Box::new(error) },
            None => error,
        }
    }
}

/// Leaves in `parts`, the rows to fit on, as many subjects as fit into memory together, of each part the same
/// share. `None` if all do.
pub(super) fn sample(
    parts: &mut [&mut Rows],
    source: &Source<'_>,
    task: &Task,
    progress: &mut dyn FnMut(&str),
) -> Option<Sampled> {
    let row = source.features.len() * size_of::<f32>();
    let most = source.spill.bytes / row.max(1);
    let of: usize = parts.iter().map(|part| part.rows.len()).sum();
    if of <= most {
        return None;
    }
    for part in parts.iter_mut() {
        let share = most as u128 * part.rows.len() as u128 / of as u128;
        thin(part, share as usize, task.train.seed);
    }
    let rows: usize = parts.iter().map(|part| part.rows.len()).sum();
    tracing::warn!(
        task = task.name,
        rows,
        of,
        "not all rows to fit on are in use, but those of a random sample of the subjects: more do not fit into \
         limits.train_bytes"
    );
    progress(&format!("using a sample of {rows} of {of} rows: more do not fit into limits.train_bytes"));
    Some(Sampled { rows, of })
}

/// Leaves the subjects that come first in the order of the draw, up to the one with which there would be more than
/// `most` rows.
fn thin(part: &mut Rows, most: usize, seed: u64) {
    let mut counts: BTreeMap<SubjectId, usize> = BTreeMap::new();
    for row in &part.rows {
        *counts.entry(row.subject).or_default() += 1;
    }
    let order = |subject: SubjectId| mix(seed ^ SALT ^ mix(subject.0 as u64));
    let mut drawn: Vec<(u64, SubjectId, usize)> =
        counts.into_iter().map(|(subject, rows)| (order(subject), subject, rows)).collect();
    drawn.sort_unstable();
    let (mut left, mut picked) = (most, BTreeSet::new());
    for (_, subject, rows) in drawn {
        // Whoever comes behind with fewer rows is not taken instead: that would prefer short histories.
        let Some(rest) = left.checked_sub(rows) else { break };
        left = rest;
        picked.insert(subject);
    }
    part.values.keep(part.rows.iter().map(|row| picked.contains(&row.subject)));
    part.rows.retain(|row| picked.contains(&row.subject));
}
