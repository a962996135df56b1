//! Labels laid down in a file until it is their turn.
//!
//! A partition's subjects come in the order of their last rows; written are they in the order of their identifiers.
//! Promises that meanwhile no more is in memory than where each subject's labels lie, and that they come back as they
//! were laid down.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use super::super::LearnError;
use super::super::folder::Folder;
use super::Labels;
use crate::events::{Micros, SubjectId};

/// Bytes of a label: its time, then its value.
const BYTES: usize = size_of::<Micros>() + 1;
/// Labels that are taken out at once.
const AT_ONCE: usize = 8192;

/// The labels of one subject.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Lot {
    subject: SubjectId,
    /// Labels that were laid down before.
    from: u64,
    labels: usize,
}

/// Labels of subjects that come in any order, each at once.
#[derive(Debug)]
pub(super) struct Shelf {
    file: BufWriter<File>,
    path: PathBuf,
    /// Holds the file.
    _folder: Folder,
    lots: Vec<Lot>,
    labels: u64,
}

impl Shelf {
    /// An empty one, where the system wants temporary files.
    ///
    /// # Errors
    /// If there can be no file.
    pub(super) fn make() -> Result<Shelf, LearnError> {
        let folder = Folder::make(&std::env::temp_dir())?;
        let path = folder.path().join("labels");
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = BufWriter::new(file.map_err(LearnError::io(&path))?);
        Ok(Shelf { file, path, _folder: folder, lots: Vec::new(), labels: 0 })
    }

    /// Lays the labels of a subject down: their times, and their values where there are any.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn put(
        &mut self,
        subject: SubjectId,
        labels: impl ExactSizeIterator<Item = (Micros, Option<bool>)>,
    ) -> Result<(), LearnError> {
        let count = labels.len();
        if count == 0 {
            return Ok(());
        }
        self.lots.push(Lot { subject, from: self.labels, labels: count });
        self.labels += count as u64;
        for (time, value) in labels {
            let mut label = [0; BYTES];
            label[..BYTES - 1].copy_from_slice(&time.to_le_bytes());
            label[BYTES - 1] = u8::from(value == Some(true));
            self.file.write_all(&label).map_err(LearnError::io(&self.path))?;
        }
        Ok(())
    }

    /// Takes all labels out, in the order of their subjects, some at a time; `has_values`: they have some.
    ///
    /// # Errors
    /// If the file cannot be read, and whatever `each` says.
    pub(super) fn take(
        self,
        has_values: bool,
        each: &mut dyn FnMut(Labels) -> Result<(), LearnError>,
    ) -> Result<(), LearnError> {
        let Shelf { file, path, _folder, mut lots, .. } = self;
        let file = file.into_inner().map_err(|error| LearnError::io(&path)(error.into_error()))?;
        let mut file = BufReader::new(file);
        lots.sort_unstable();
        let mut labels = Labels::default();
        for Lot { subject, from, labels: count } in lots {
            file.seek(SeekFrom::Start(from * BYTES as u64)).map_err(LearnError::io(&path))?;
            for _ in 0..count {
                let mut label = [0; BYTES];
                file.read_exact(&mut label).map_err(LearnError::io(&path))?;
                let [time @ .., value] = label;
                labels.push(subject, Micros::from_le_bytes(time), has_values.then_some(value == 1));
                if labels.len() == AT_ONCE {
                    each(std::mem::take(&mut labels))?;
                }
            }
        }
        if labels.len() > 0 { each(labels) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn labels_come_back_in_the_order_of_subjects() {
        for has_values in [true, false] {
            let (mut shelf, mut laid) = (Shelf::make().unwrap(), BTreeMap::new());
            // More than are taken out at once, of some subjects none.
            for subject in (0..300_i64).map(|i| i * 7 % 300 - 100) {
                let value = |i: i64| has_values.then_some((subject + i) % 3 == 0);
                let labels: Vec<_> = (0..subject.rem_euclid(80)).map(|i| (i * i - subject, value(i))).collect();
                shelf.put(SubjectId(subject), labels.iter().copied()).unwrap();
                laid.insert(subject, labels);
            }
            let folder = shelf.path.parent().unwrap().to_owned();
            let (mut found, mut pieces) = (Labels::default(), Vec::new());
            let mut each = |labels: Labels| {
                pieces.push(labels.len());
                found.subjects.extend(&labels.subjects);
                found.times.extend(&labels.times);
                found.values.extend(&labels.values);
                Ok(())
            };
            shelf.take(has_values, &mut each).unwrap();
            let all = || laid.iter().flat_map(|(subject, labels)| labels.iter().map(move |label| (*subject, label)));
            assert!(found.subjects.iter().copied().eq(all().map(|(subject, _)| subject)));
            assert!(found.times.iter().copied().eq(all().map(|(_, (time, _))| *time)));
            assert!(found.values.iter().copied().eq(all().filter_map(|(_, (_, value))| *value)));
            assert_eq!(pieces, [AT_ONCE, found.len() - AT_ONCE]);
            assert!(found.len() > AT_ONCE && !folder.exists());
        }
    }
}
