//! MEDS data subject by subject, as facts: what labels and counts are made of.
//!
//! Reads only the columns that are needed, codes as the numbers that the file's own dictionary
//! gives them, and never more than a subject's rows at once. Two rules of MEDS are relied on and
//! checked before anything is read: a subject lives in one file, and its rows there are
//! contiguous. So subjects can be shared out to threads, wherever row groups end.

use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Float32Type, Int32Type, Schema};
use foldhash::fast::FixedState;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use rayon::prelude::*;

use super::super::LibraryError;
use super::columns::{self, instants, integers, is_text, strings, to, unusable};
use super::read::Columns;
use crate::events::{CodeNumbers, Codes, ColumnTest, Fact, SomeEvents, SubjectId};

/// Rows of a batch.
const BATCH_ROWS: usize = 32 * 1024;
/// Rows below which a part is not worth a thread's start.
const PART_ROWS: u64 = 64 * 1024;

/// The subjects of a MEDS file or data set, ready to be read.
#[derive(Debug)]
pub struct MedsSubjects {
    sources: Vec<Source>,
    runs: Vec<Run>,
    tests: Vec<ColumnTest>,
    orphans: u64,
}

/// Some of the subjects of one file. See [`MedsSubjects::parts`].
#[derive(Debug)]
pub struct MedsPart<'a> {
    source: &'a Source,
    runs: &'a [Run],
    tests: &'a [ColumnTest],
}

/// One file.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    /// Places of `subject_id`, `time`, `code`, the number if there is one, and of the columns that are tested.
    subject: usize,
    time: usize,
    code: usize,
    numeric: Option<usize>,
    /// That of an export of this library which marks numbers that cannot be.
    implausible: Option<usize>,
    tested: Vec<usize>,
}

/// The rows of one subject in a file.
#[derive(Clone, Debug)]
struct Run {
    source: usize,
    subject: SubjectId,
    rows: Range<u64>,
}

impl MedsSubjects {
    /// Finds the subjects of a Parquet file of MEDS events, or of every one below `data/` of a
    /// data set's root. `tests`: what else than the code tells their events apart.
    ///
    /// # Errors
    /// If the path cannot be read, is no MEDS data or lacks a column that is tested, or if a
    /// subject's rows are not contiguous.
    pub fn open(path: &Path, tests: &[ColumnTest]) -> Result<MedsSubjects, LibraryError> {
        let sources =
            columns::files(path)?.into_iter().map(|file| Source::open(file, tests)).collect::<Result<Vec<_>, _>>()?;
        let groups: Vec<(usize, usize)> = (0..sources.len())
            .flat_map(|source| (0..sources[source].metadata.metadata().num_row_groups()).map(move |g| (source, g)))
            .collect();
        let starts: Vec<Starts> = groups
            .par_iter()
            .map(|(source, group)| sources[*source].starts(*group))
            .collect::<Result<_, LibraryError>>()?;
        let mut found = MedsSubjects { sources, runs: Vec::new(), tests: tests.to_vec(), orphans: 0 };
        let mut seen: HashSet<i64, FixedState> = HashSet::default();
        let (mut of, mut row) = (None, 0);
        for ((source, _), group) in groups.iter().zip(starts) {
            if of != Some(source) {
                (of, row) = (Some(source), 0);
            }
            found.orphans += group.orphans;
            for (start, id) in group.subjects {
                let start = row + start;
                let last = found.runs.last_mut().filter(|last| last.source == *source);
                match last {
                    // The row group before ended with the same subject.
                    Some(last) if last.subject.0 == id => continue,
                    Some(last) => last.rows.end = start,
                    None => {}
                }
                if !seen.insert(id) {
                    let what = format!(
                        "a subject comes again in row {start}; sort the data by subject_id and time and keep a subject in one file"
                    );
                    return Err(unusable(&found.sources[*source].path, &what));
                }
                let rows = start..found.sources[*source].rows();
                found.runs.push(Run { source: *source, subject: SubjectId(id), rows });
            }
            row += group.rows;
        }
        Ok(found)
    }

    /// How many subjects there are.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Rows without `subject_id`: nobody's, they are left out.
    pub fn orphans(&self) -> u64 {
        self.orphans
    }

    /// The subjects in `count` parts of about as many rows, or in more where there are more
    /// files or a part had more than `most` rows, or in fewer of few rows; in the order of the files.
    pub fn parts(&self, count: usize, most: u64) -> Vec<MedsPart<'_>> {
        let rows: u64 = self.sources.iter().map(Source::rows).sum();
        let most = (rows / count.max(1) as u64).min(most).max(PART_ROWS);
        let mut parts = Vec::new();
        for of_source in self.runs.chunk_by(|a, b| a.source == b.source) {
            let mut rest = of_source;
            while let Some(first) = rest.first() {
                let end = rest.partition_point(|run| run.rows.end <= first.rows.start + most).max(1);
                let (runs, others) = rest.split_at(end);
                parts.push(MedsPart { source: &self.sources[first.source], runs, tests: &self.tests });
                rest = others;
            }
        }
        parts
    }
}

/// What is done with each subject: the codes so far, who it is, its facts.
type EachSubject<'a, E> = dyn FnMut(&Codes, SubjectId, &[Fact]) -> Result<(), E> + 'a;

impl MedsPart<'_> {
    /// The file that it is of.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// Calls `each` with every subject and its facts, in the order of the file; new codes are
    /// added to `codes`. Returns the number of rows without a code, which are left out.
    ///
    /// # Errors
    /// If the file cannot be read, and whatever `each` says.
    pub fn for_each_subject<E: From<LibraryError>>(
        &self,
        codes: &mut Codes,
        each: &mut EachSubject<'_, E>,
    ) -> Result<u64, E> {
        let (mut facts, mut uncoded) = (Vec::new(), 0);
        let mut runs = self.runs.iter();
        let Some((mut run, last)) = runs.next().zip(self.runs.last()) else { return Ok(0) };
        let (mut row, end) = (run.rows.start, last.rows.end);
        for (group, of_group) in self.source.groups() {
            let wanted = of_group.start.max(row)..of_group.end.min(end);
            if wanted.is_empty() {
                continue;
            }
            // A dictionary is that of one row group.
            let mut numbers = CodeNumbers::default();
            let skipped = wanted.start - of_group.start;
            let reader = self.source.reader(group, skipped, wanted.end - wanted.start)?;
            for batch in reader {
                let batch = batch.map_err(LibraryError::from)?;
                let cells = Cells::of(&batch, self.source, self.tests)?;
                numbers.learn(&cells.code, codes);
                let mut at = 0;
                while at < batch.num_rows() {
                    let next = batch.num_rows().min(at + (run.rows.end - row) as usize);
                    uncoded += cells.append(at..next, &numbers, codes, &mut facts);
                    row += (next - at) as u64;
                    at = next;
                    if row == run.rows.end {
                        each(codes, run.subject, &facts)?;
                        facts.clear();
                        match runs.next() {
                            Some(next) => run = next,
                            None => return Ok(uncoded),
                        }
                    }
                }
            }
        }
        // The file has fewer rows than its own metadata says.
        Err(unusable(&self.source.path, "it is a damaged parquet file: rows are missing").into())
    }
}

/// Where subjects begin in a row group.
struct Starts {
    rows: u64,
    /// First row and subject.
    subjects: Vec<(u64, i64)>,
    orphans: u64,
}

impl Source {
    fn open(path: PathBuf, tests: &[ColumnTest]) -> Result<Self, LibraryError> {
        let file = File::open(&path).map_err(LibraryError::io(&path))?;
        let plain = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
            .map_err(|_| unusable(&path, "it is no parquet file, or a damaged one"))?;
        let found = Columns::find(&path, plain.schema())?;
        let tested = tests
            .iter()
            .map(|test| {
                let place = plain.schema().index_of(&test.column).ok();
                place.filter(|place| is_comparable(plain.schema().field(*place).data_type())).ok_or_else(|| {
                    let what = format!(
                        "it has no column '{}' of text, whole numbers or booleans; a predicate asks for it by other_cols",
                        test.column
                    );
                    unusable(&path, &what)
                })
            })
            .collect::<Result<_, _>>()?;
        // Codes are read as the numbers that the file keeps, where it keeps them so.
        let mut fields: Vec<Arc<Field>> = plain.schema().fields().iter().cloned().collect();
        let code = fields[found.code].as_ref().clone();
        if *code.data_type() != DataType::Null {
            fields[found.code] = Arc::new(code.with_data_type(SomeEvents::dictionary()));
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, plain.schema().metadata().clone()));
        let options = ArrowReaderOptions::new().with_schema(schema);
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options).unwrap_or(plain);
        let Columns { subject, time, code, numeric, implausible, .. } = found;
        Ok(Source { path, metadata, subject, time, code, numeric, implausible, tested })
    }

    fn rows(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Every row group, and which rows of the file it has.
    fn groups(&self) -> impl Iterator<Item = (usize, Range<u64>)> {
        let mut end = 0;
        self.metadata.metadata().row_groups().iter().enumerate().map(move |(group, of)| {
            let start = end;
            end += u64::try_from(of.num_rows()).unwrap_or(0);
            (group, start..end)
        })
    }

    fn builder(&self, group: usize) -> Result<ParquetRecordBatchReaderBuilder<File>, LibraryError> {
        let file = File::open(&self.path).map_err(LibraryError::io(&self.path))?;
        Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_row_groups(vec![group])
            .with_batch_size(BATCH_ROWS))
    }

    /// Some rows of a row group.
    fn reader(&self, group: usize, skipped: u64, rows: u64) -> Result<ParquetRecordBatchReader, LibraryError> {
        let columns = [self.subject, self.time, self.code].into_iter().chain(self.numeric).chain(self.implausible);
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), columns.chain(self.tested.iter().copied()));
        let builder = self.builder(group)?.with_projection(mask);
        Ok(builder.with_offset(skipped as usize).with_limit(rows as usize).build()?)
    }

    fn starts(&self, group: usize) -> Result<Starts, LibraryError> {
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), [self.subject]);
        let mut starts = Starts { rows: 0, subjects: Vec::new(), orphans: 0 };
        let mut current = None;
        for batch in self.builder(group)?.with_projection(mask).build()? {
            let ids = integers(batch?.column(0))?;
            starts.orphans += ids.null_count() as u64;
            for (row, id) in (starts.rows..).zip(ids.values()) {
                if current != Some(*id) && ids.is_valid((row - starts.rows) as usize) {
                    current = Some(*id);
                    starts.subjects.push((row, *id));
                }
            }
            starts.rows += ids.len() as u64;
        }
        Ok(starts)
    }
}

fn is_comparable(kind: &DataType) -> bool {
    is_text(kind) || kind.is_integer() || *kind == DataType::Boolean
}

/// A batch's columns in the types of facts.
struct Cells {
    subject: Int64Array,
    time: TimestampMicrosecondArray,
    code: DictionaryArray<Int32Type>,
    numeric: Option<Float32Array>,
    implausible: Option<BooleanArray>,
    /// Columns that are tested, and for what.
    tested: Vec<(StringArray, String)>,
}

impl Cells {
    fn of(batch: &RecordBatch, source: &Source, tests: &[ColumnTest]) -> Result<Self, LibraryError> {
        let schema = source.metadata.schema();
        let column = |place: usize| columns::named(batch, schema.field(place).name());
        let numeric = match source.numeric {
            Some(place) => Some(to(&column(place)?, &DataType::Float32)?.as_primitive::<Float32Type>().clone()),
            None => None,
        };
        let implausible = match source.implausible {
            Some(place) => Some(column(place)?.as_boolean().clone()),
            None => None,
        };
        let tested = source.tested.iter().zip(tests).map(|(place, test)| {
            let texts: ArrayRef = column(*place)?;
            Ok::<_, LibraryError>((strings(&texts)?, test.value.clone()))
        });
        Ok(Cells {
            subject: integers(&column(source.subject)?)?,
            time: instants(&column(source.time)?)?,
            code: to(&column(source.code)?, &SomeEvents::dictionary())?.as_dictionary::<Int32Type>().clone(),
            numeric,
            implausible,
            tested: tested.collect::<Result<_, _>>()?,
        })
    }

    /// Appends the facts of some rows; returns how many have no code.
    fn append(&self, rows: Range<usize>, numbers: &CodeNumbers, codes: &mut Codes, facts: &mut Vec<Fact>) -> u64 {
        let mut uncoded = 0;
        let keys = self.code.keys();
        for i in rows {
            if self.subject.is_null(i) {
                continue;
            }
            if keys.is_null(i) {
                uncoded += 1;
                continue;
            }
            let key = keys.value(i) as usize;
            let passed = self.passed(i);
            facts.push(Fact {
                time: self.time.is_valid(i).then(|| self.time.value(i)),
                code: if passed == 0 { numbers.number(key) } else { codes.number(numbers.text(key), passed) },
                value: self.value(i),
            });
        }
        uncoded
    }

    /// The number of a row; NaN where there is none, or one that cannot be.
    fn value(&self, i: usize) -> f32 {
        let marked = self.implausible.as_ref().is_some_and(|marks| marks.is_valid(i) && marks.value(i));
        let value = self.numeric.as_ref().filter(|values| values.is_valid(i) && !marked);
        value.map_or(f32::NAN, |values| values.value(i))
    }

    /// The tests that a row passes, a bit each.
    fn passed(&self, i: usize) -> u64 {
        let holds = |(column, value): &(StringArray, String)| column.is_valid(i) && column.value(i) == value;
        (0..).zip(&self.tested).map(|(bit, tested)| u64::from(holds(tested)) << bit).sum()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampSecondArray;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;

    /// Rows of (subject, second, code, unit), written in row groups of three.
    type Rows<'a> = &'a [(Option<i64>, Option<i64>, Option<&'a str>, &'a str)];

    fn write(path: &Path, rows: Rows<'_>) {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("subject_id", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)))),
            ("time", Arc::new(TimestampSecondArray::from_iter(rows.iter().map(|row| row.1)))),
            ("code", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2)))),
            ("value", Arc::new(Float32Array::from_iter((0..rows.len()).map(|i| (i % 2 == 1).then_some(i as f32))))),
            ("implausible", Arc::new(BooleanArray::from_iter((0..rows.len()).map(|i| (i != 3).then_some(i == 7))))),
            ("site", Arc::new(StringArray::from_iter(rows.iter().map(|row| Some(row.3))))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(3)).build();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    type Seen = (i64, Vec<(Option<i64>, String, u64, Option<f32>)>);

    fn read(part: &MedsPart<'_>) -> (Vec<Seen>, u64) {
        let (mut codes, mut found) = (Codes::default(), Vec::new());
        let uncoded = part
            .for_each_subject::<LibraryError>(&mut codes, &mut |codes, subject, facts| {
                let told = |fact: &Fact| {
                    let value = Some(fact.value).filter(|value| !value.is_nan());
                    (fact.time.map(|t| t / 1_000_000), codes.code(fact.code).to_owned(), codes.passed(fact.code), value)
                };
                found.push((subject.0, facts.iter().map(told).collect()));
                Ok(())
            })
            .unwrap();
        (found, uncoded)
    }

    #[test]
    fn a_subject_is_read_whole_wherever_row_groups_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        write(
            &path,
            &[
                (None, Some(0), Some("A"), ""),
                (Some(7), None, Some("B"), "x"),
                (Some(7), Some(1), Some("A"), "y"),
                (Some(7), Some(2), Some("A"), "x"),
                (Some(7), Some(3), None, ""),
                (Some(-2), Some(4), Some("C"), ""),
                (None, Some(5), Some("A"), ""),
                (Some(-2), Some(6), Some("B"), ""),
                (Some(9), Some(7), Some("A"), ""),
            ],
        );
        let site = |value: &str| ColumnTest { column: "site".to_owned(), value: value.to_owned() };
        let subjects = MedsSubjects::open(&path, &[site("z"), site("x")]).unwrap();
        assert_eq!((subjects.len(), subjects.orphans()), (3, 2));
        let fact = |time, code: &str, passed, value| (time, code.to_owned(), passed, value);
        let expected = [
            (7, vec![fact(None, "B", 2, Some(1.0)), fact(Some(1), "A", 0, None), fact(Some(2), "A", 2, Some(3.0))]),
            (-2, vec![fact(Some(4), "C", 0, Some(5.0)), fact(Some(6), "B", 0, None)]),
            (9, vec![fact(Some(7), "A", 0, None)]),
        ];
        let parts = subjects.parts(2, u64::MAX);
        assert_eq!(parts.len(), 1, "few rows are no work for two");
        assert_eq!(read(&parts[0]), (expected.to_vec(), 1));
        for (i, expected) in expected.iter().enumerate() {
            let part = MedsPart { runs: &parts[0].runs[i..=i], ..*parts.first().unwrap() };
            assert_eq!(read(&part).0, *std::slice::from_ref(expected));
        }
    }

    #[test]
    fn a_subject_that_is_not_contiguous_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let reason = |tests: &[ColumnTest]| match MedsSubjects::open(folder.path(), tests) {
            Err(LibraryError::Meds { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason(&[]).contains("no .parquet file"));
        let row = |subject| (Some(subject), Some(0), Some("A"), "");
        write(&folder.path().join("a.parquet"), &[row(1), row(1), row(2), row(2)]);
        assert_eq!(MedsSubjects::open(folder.path(), &[]).unwrap().len(), 2);
        let test = |column: &str| ColumnTest { column: column.to_owned(), value: "1".to_owned() };
        assert!(reason(&[test("ward")]).contains("no column 'ward'"));
        assert!(reason(&[test("value")]).contains("no column 'value' of text"));
        write(&folder.path().join("b.parquet"), &[row(3), row(2)]);
        assert!(reason(&[]).contains("comes again in row 1"));
        write(&folder.path().join("a.parquet"), &[row(1), row(5), row(5), row(5), row(1)]);
        assert!(reason(&[]).contains("comes again in row 4"));
    }
}
