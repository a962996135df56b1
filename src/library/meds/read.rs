//! Reading a MEDS file or data set as event batches.
//!
//! Two rules of MEDS are relied on and checked: a subject lives in one file, and its rows
//! there are contiguous. Then one pass over two columns and one over the file, with the
//! memory of a subject's rows, give every row an identity of its own: equal rows of a
//! subject are numbered, so that none is lost, and a second import adds nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BooleanArray, Float32Array, Int64Array, LargeStringArray, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Float32Type, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::super::LibraryError;
use super::super::table::history_schema;
use super::columns::{
    self, instants, integers, is_instant, is_number, is_text, named, strings, text, to, unusable, valid,
};
use super::extra::Extra;
use crate::events::{EventKey, EventRef, EventsBuilder, Micros, Op, SubjectId};

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;
/// Purpose of the hash that identifies a row. Changing it makes every old import unknown.
const IDENTITY: &str = "auscult 2026 meds row";

/// The rows of MEDS data as event batches, file by file. See [`read_meds`].
pub struct MedsReader {
    files: VecDeque<PathBuf>,
    open: Option<MedsFile>,
    subjects: HashSet<i64>,
    builder: EventsBuilder,
    extra: StringBuilder,
    unkept: BTreeSet<String>,
    rows: u64,
    refused: BTreeMap<&'static str, u64>,
}

impl fmt::Debug for MedsReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MedsReader").field("files", &self.files).field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// Reads a Parquet file of MEDS events, or every one below `data/` of a data set's root.
///
/// `subject_id` is kept. Optional columns that are absent are null; `value` stands for
/// `numeric_value` where that is absent. A value that is not finite is no value. `unit`,
/// `concept`, `encounter_id`, `recorded_at` and `implausible` are read where the file has them, as an
/// export of this library does; what other columns say is kept beside the event, where it has a
/// text. Without `recorded_at` a row
/// became known at its `time`, a static one at the subject's earliest time.
///
/// # Errors
/// If the path cannot be read or holds no Parquet file. Each batch may fail too: if a file
/// is no MEDS file, or a subject's rows are not contiguous.
pub fn read_meds(path: &Path) -> Result<MedsReader, LibraryError> {
    Ok(MedsReader {
        files: columns::files(path)?.into(),
        open: None,
        subjects: HashSet::new(),
        builder: EventsBuilder::new(),
        extra: StringBuilder::new(),
        unkept: BTreeSet::new(),
        rows: 0,
        refused: BTreeMap::new(),
    })
}

impl MedsReader {
    /// Rows read so far, refused ones included.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows refused so far, by the column that must not be null: `subject_id` or `code`.
    pub fn refused(&self) -> &BTreeMap<&'static str, u64> {
        &self.refused
    }

    /// Columns of the files read so far that cannot be kept: lists, structs, and such as have the name of
    /// another column of events.
    pub fn unkept(&self) -> &BTreeSet<String> {
        &self.unkept
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>, LibraryError> {
        loop {
            if self.open.is_none() {
                let Some(path) = self.files.pop_front() else { return Ok(None) };
                let file = MedsFile::open(path, &mut self.subjects)?;
                self.unkept.extend(file.extra.unkept.iter().cloned());
                self.open = Some(file);
            }
            let Some(file) = &mut self.open else { continue };
            match file.rows.next() {
                Some(batch) => {
                    let batch = batch?;
                    self.rows += batch.num_rows() as u64;
                    file.events(&batch, &mut self.builder, &mut self.extra, &mut self.refused)?;
                    if !self.builder.is_empty() {
                        let mut columns = self.builder.finish()?.columns().to_vec();
                        columns.push(Arc::new(self.extra.finish()));
                        return Ok(Some(RecordBatch::try_new(history_schema(), columns)?));
                    }
                }
                None => self.open = None,
            }
        }
    }
}

impl Iterator for MedsReader {
    type Item = Result<RecordBatch, LibraryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batch().transpose();
        if matches!(batch, Some(Err(_))) {
            // What follows an error cannot be trusted: the reader is at its end.
            self.files.clear();
            self.open = None;
        }
        batch
    }
}

/// One file, its first pass done.
struct MedsFile {
    name: String,
    columns: Columns,
    extra: Extra,
    earliest: HashMap<i64, Micros>,
    rows: ParquetRecordBatchReader,
    /// Row in the file of the next row.
    at: u64,
    subject: Option<i64>,
    /// How often each content of the current subject was seen.
    seen: HashMap<[u8; 16], u64>,
}

/// Where a file has the columns that are read.
pub(super) struct Columns {
    pub(super) subject: usize,
    pub(super) time: usize,
    pub(super) code: usize,
    pub(super) numeric: Option<usize>,
    text: Option<usize>,
    unit: Option<usize>,
    concept: Option<usize>,
    encounter: Option<usize>,
    recorded: Option<usize>,
    pub(super) implausible: Option<usize>,
}

impl Columns {
    pub(super) fn find(path: &Path, schema: &Schema) -> Result<Self, LibraryError> {
        let any = |name: &str| schema.index_of(name).ok();
        let typed = |name: &str, fits: fn(&DataType) -> bool| any(name).filter(|&i| fits(schema.field(i).data_type()));
        let needed = |name: &str, fits: fn(&DataType) -> bool| {
            typed(name, fits).ok_or_else(|| {
                unusable(path, &format!("column '{name}' is missing or has another type than MEDS gives it"))
            })
        };
        let optional = |name: &str, fits: fn(&DataType) -> bool| match any(name) {
            Some(_) => needed(name, fits).map(Some),
            None => Ok(None),
        };
        Ok(Columns {
            subject: needed("subject_id", DataType::is_integer)?,
            time: needed("time", is_instant)?,
            code: needed("code", is_text)?,
            numeric: match optional("numeric_value", is_number)? {
                Some(column) => Some(column),
                None => typed("value", is_number),
            },
            text: optional("text_value", is_text)?,
            // Extension columns may have these names by chance, with another meaning.
            unit: typed("unit", is_text),
            concept: typed("concept", is_text),
            encounter: typed("encounter_id", is_text),
            recorded: typed("recorded_at", is_instant),
            implausible: typed("implausible", |kind| *kind == DataType::Boolean),
        })
    }

    fn all(&self) -> Vec<usize> {
        let optional =
            [self.numeric, self.text, self.unit, self.concept, self.encounter, self.recorded, self.implausible];
        [self.subject, self.time, self.code].into_iter().chain(optional.into_iter().flatten()).collect()
    }
}

impl MedsFile {
    fn open(path: PathBuf, subjects: &mut HashSet<i64>) -> Result<Self, LibraryError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).map_err(LibraryError::io(&path))?)
            .map_err(|_| unusable(&path, "it is no parquet file, or a damaged one"))?;
        let columns = Columns::find(&path, builder.schema())?;
        let earliest = first_pass(&path, &columns, subjects)?;
        let extra = Extra::find(builder.schema(), &columns.all());
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns.all().into_iter().chain(extra.places()));
        let rows = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build()?;
        Ok(MedsFile { name, columns, extra, earliest, rows, at: 0, subject: None, seen: HashMap::new() })
    }

    /// Adds the rows of a batch to the builder, in the file's order.
    fn events(
        &mut self,
        batch: &RecordBatch,
        builder: &mut EventsBuilder,
        extra: &mut StringBuilder,
        refused: &mut BTreeMap<&'static str, u64>,
    ) -> Result<(), LibraryError> {
        let cells = Cells::of(batch, &self.columns)?;
        let objects = self.extra.objects(batch)?;
        let context = blake3::Hasher::new_derive_key(IDENTITY);
        for (i, object) in objects.iter().enumerate() {
            let source = format!("{}#{}", self.name, self.at);
            self.at += 1;
            if cells.subject.is_null(i) || cells.code.is_null(i) {
                *refused.entry(if cells.subject.is_null(i) { "subject_id" } else { "code" }).or_default() += 1;
                continue;
            }
            let subject = cells.subject.value(i);
            if self.subject != Some(subject) {
                self.subject = Some(subject);
                self.seen.clear();
            }
            let time = valid(&cells.time, i, TimestampMicrosecondArray::value);
            let recorded =
                cells.recorded.as_ref().and_then(|column| valid(column, i, TimestampMicrosecondArray::value));
            let earliest = self.earliest.get(&subject).copied();
            let mut event = EventRef {
                subject: Some(SubjectId(subject)),
                time,
                code: cells.code.value(i),
                numeric_value: cells
                    .numeric
                    .as_ref()
                    .and_then(|column| valid(column, i, Float32Array::value))
                    .filter(|value| value.is_finite()),
                text_value: cells.text.as_ref().and_then(|column| column.is_valid(i).then(|| column.value(i))),
                unit: text(cells.unit.as_ref(), i),
                concept: text(cells.concept.as_ref(), i),
                implausible: cells.implausible.as_ref().is_some_and(|column| column.is_valid(i) && column.value(i)),
                recorded_at: recorded.or(time).or(earliest).unwrap_or(0),
                op: Op::Assert,
                event_key: EventKey([0; 16]),
                encounter_id: text(cells.encounter.as_ref(), i),
                source: &source,
            };
            event.event_key = self.identity(&context, &event);
            builder.push(&event)?;
            extra.append_option(object.as_deref());
        }
        Ok(())
    }

    /// Key of a row: its content and, from the second equal row of the subject on, its number.
    fn identity(&mut self, context: &blake3::Hasher, event: &EventRef<'_>) -> EventKey {
        let content = short(&content(context.clone(), event));
        let count = self.seen.entry(content).or_default();
        let number = *count;
        *count += 1;
        if number == 0 {
            return EventKey(content);
        }
        let mut hasher = context.clone();
        hasher.update(&content);
        hasher.update(&number.to_le_bytes());
        EventKey(short(&hasher.finalize()))
    }
}

/// Hash of what a row says. `concept` and `implausible` are left out: a site may map codes anew.
fn content(mut hasher: blake3::Hasher, event: &EventRef<'_>) -> blake3::Hash {
    hasher.update(&event.subject.map_or(0, |subject| subject.0).to_le_bytes());
    hasher.update(&[u8::from(event.time.is_some()), u8::from(event.numeric_value.is_some())]);
    hasher.update(&event.time.unwrap_or_default().to_le_bytes());
    hasher.update(&event.numeric_value.unwrap_or_default().to_bits().to_le_bytes());
    for text in [Some(event.code), event.text_value, event.unit, event.encounter_id] {
        hasher.update(&text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
        hasher.update(text.unwrap_or_default().as_bytes());
    }
    hasher.finalize()
}

fn short(hash: &blake3::Hash) -> [u8; 16] {
    let mut head = [0; 16];
    head.copy_from_slice(&hash.as_bytes()[..16]);
    head
}

/// Reads subjects and times once: the earliest time of every subject, and whether the
/// rules of MEDS hold.
fn first_pass(
    path: &Path,
    columns: &Columns,
    subjects: &mut HashSet<i64>,
) -> Result<HashMap<i64, Micros>, LibraryError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).map_err(LibraryError::io(path))?)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), [columns.subject, columns.time]);
    let mut earliest: HashMap<i64, Micros> = HashMap::new();
    let mut current = None;
    let mut row = 0_u64;
    for batch in builder.with_projection(mask).with_batch_size(BATCH_ROWS).build()? {
        let batch = batch?;
        let ids = integers(&named(&batch, "subject_id")?)?;
        let times = instants(&named(&batch, "time")?)?;
        for i in 0..batch.num_rows() {
            if ids.is_valid(i) {
                let id = ids.value(i);
                if current != Some(id) {
                    current = Some(id);
                    if !subjects.insert(id) {
                        return Err(unusable(
                            path,
                            &format!(
                                "a subject comes again in row {row}; sort the data by subject_id and time and keep a subject in one file"
                            ),
                        ));
                    }
                }
                if let Some(time) = valid(&times, i, TimestampMicrosecondArray::value) {
                    earliest.entry(id).and_modify(|least| *least = time.min(*least)).or_insert(time);
                }
            }
            row += 1;
        }
    }
    Ok(earliest)
}

/// A batch's columns in the types of the event schema.
struct Cells {
    subject: Int64Array,
    time: TimestampMicrosecondArray,
    code: StringArray,
    numeric: Option<Float32Array>,
    text: Option<LargeStringArray>,
    unit: Option<StringArray>,
    concept: Option<StringArray>,
    encounter: Option<StringArray>,
    recorded: Option<TimestampMicrosecondArray>,
    implausible: Option<BooleanArray>,
}

impl Cells {
    fn of(batch: &RecordBatch, columns: &Columns) -> Result<Self, LibraryError> {
        let texts = |present: Option<usize>, name: &str| -> Result<Option<StringArray>, LibraryError> {
            match present {
                Some(_) => Ok(Some(strings(&named(batch, name)?)?)),
                None => Ok(None),
            }
        };
        let numeric = if batch.column_by_name("numeric_value").is_some() { "numeric_value" } else { "value" };
        Ok(Cells {
            subject: integers(&named(batch, "subject_id")?)?,
            time: instants(&named(batch, "time")?)?,
            code: strings(&named(batch, "code")?)?,
            numeric: match columns.numeric {
                Some(_) => Some(to(&named(batch, numeric)?, &DataType::Float32)?.as_primitive::<Float32Type>().clone()),
                None => None,
            },
            text: match columns.text {
                Some(_) => Some(to(&named(batch, "text_value")?, &DataType::LargeUtf8)?.as_string::<i64>().clone()),
                None => None,
            },
            unit: texts(columns.unit, "unit")?,
            concept: texts(columns.concept, "concept")?,
            encounter: texts(columns.encounter, "encounter_id")?,
            recorded: match columns.recorded {
                Some(_) => Some(instants(&named(batch, "recorded_at")?)?),
                None => None,
            },
            implausible: match columns.implausible {
                Some(_) => Some(to(&named(batch, "implausible")?, &DataType::Boolean)?.as_boolean().clone()),
                None => None,
            },
        })
    }
}
