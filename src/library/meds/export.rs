//! Writing what the library holds now as a MEDS data set.
//!
//! What holds now: of every fact its last word, unless that withdrew it. No ticks, no
//! sealed identifiers. A subject that was merged into another is not there: its facts are the
//! other's. A partition at a time, so that a subject is in one file and the
//! memory is that of the largest partition.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, new_null_array};
use arrow::compute::{cast, interleave_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt as _;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::json;

use super::super::history::Scan;
use super::super::table::{EXTRA, data_files};
use super::super::{Library, LibraryError, Table};
use super::extra::ExtraColumns;
use crate::events::{EventKey, EventsView, Links, Micros, Op, Seen, Split, SubjectId, TOKEN, column, schema, split_of};

/// Version of the standard that is written.
const MEDS: &str = "0.4.0";
/// Name under which an export knows an earlier one of its own.
const ETL: &str = "auscult";
/// Folder in the target where an export is built before it takes the target's place.
const BUILT: &str = ".auscult-export";
/// Columns beyond the MEDS `DataSchema`.
const EXTENSIONS: [&str; 6] = ["unit", "concept", "recorded_at", "encounter_id", "source", "implausible"];
/// Rows interleaved, and written, at once.
const CHUNK_ROWS: usize = 32 * 1024;

/// What an export wrote.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Exported {
    /// Subjects in `metadata/subject_splits.parquet`.
    pub subjects: u64,
    /// Rows below `data/`.
    pub events: u64,
}

/// Writes the library as a MEDS 0.4 data set into `dir`: `data/{train,tuning,held_out}/N.parquet`
/// and the three files of `metadata/`. An earlier export there is replaced, once the new
/// one is whole. `progress` is told how many rows of the library have been read so far.
///
/// # Errors
/// If `dir` holds anything but an earlier export, if it cannot be written, or if the
/// library cannot be read or has a subject in two partitions.
pub async fn export_meds(
    library: &Library,
    dir: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Exported, LibraryError> {
    prepare(dir)?;
    let built = dir.join(BUILT);
    let mut summary = Summary { extra: extra_columns(library).await?, ..Summary::default() };
    let mut read = 0;
    for partition in library.partitions().await? {
        let mut holding = Holding::default();
        let mut history = library.history(partition).await?;
        while let Some(batch) = history.next().await? {
            read += batch.num_rows() as u64;
            holding.add(batch)?;
            progress(read);
        }
        let folder = built.join("data");
        summary = tokio::task::spawn_blocking(move || {
            holding.write(&folder, partition, &mut summary)?;
            Ok::<_, LibraryError>(summary)
        })
        .await
        .map_err(|_| LibraryError::Stopped)??;
    }
    summary.write(&built.join("metadata"))?;
    // The metadata comes last: until the data are in place the old ones, or those in the
    // build, mark the target as an export, so that one broken off here can be repeated.
    for name in ["data", "metadata"] {
        let (from, to) = (built.join(name), dir.join(name));
        if to.exists() {
            fs::remove_dir_all(&to).map_err(LibraryError::io(&to))?;
        }
        fs::rename(&from, &to).map_err(LibraryError::io(&to))?;
    }
    fs::remove_dir_all(&built).map_err(LibraryError::io(&built))?;
    Ok(Exported { subjects: summary.splits.len() as u64, events: summary.events })
}

/// What imported MEDS data said beyond the event schema: every file of the export has all of it.
async fn extra_columns(library: &Library) -> Result<ExtraColumns, LibraryError> {
    let mut extra = ExtraColumns::default();
    let Some(delta) = library.open_table(Table::Events).await? else { return Ok(extra) };
    let paths: Vec<String> = data_files(&delta, Table::Events)?.into_iter().map(|file| file.path).collect();
    let mut stream = Scan::new(delta)?.rows(&paths, &[EXTRA], None).await?.execute_stream().await?;
    while let Some(batch) = stream.next().await {
        extra.see(cast(batch?.column(0), &DataType::Utf8)?.as_string::<i32>());
    }
    Ok(extra)
}

/// Makes the target, or checks that an export may take its place.
fn prepare(dir: &Path) -> Result<(), LibraryError> {
    fs::create_dir_all(dir).map_err(LibraryError::io(dir))?;
    let mut empty = true;
    for entry in fs::read_dir(dir).map_err(LibraryError::io(dir))? {
        empty &= entry.map_err(LibraryError::io(dir))?.file_name() == BUILT;
    }
    let built = dir.join(BUILT);
    if !empty && !is_export(dir) && !is_export(&built) {
        return Err(LibraryError::Target(dir.to_owned()));
    }
    if built.exists() {
        fs::remove_dir_all(&built).map_err(LibraryError::io(&built))?;
    }
    for folder in [built.join("data"), built.join("metadata")] {
        fs::create_dir_all(&folder).map_err(LibraryError::io(&folder))?;
    }
    Ok(())
}

fn is_export(dir: &Path) -> bool {
    let Ok(text) = fs::read(dir.join("metadata/dataset.json")) else { return false };
    serde_json::from_slice::<serde_json::Value>(&text).is_ok_and(|dataset| dataset["etl_name"] == ETL)
}

/// Where a row lies: batch, and row in it.
type Place = (usize, usize);

/// What holds of one partition's facts, as far as it has been read.
#[derive(Default)]
struct Holding {
    batches: Vec<RecordBatch>,
    links: Links,
    facts: HashMap<SubjectId, HashMap<EventKey, Place>>,
}

impl Holding {
    /// Takes the next rows of the history.
    fn add(&mut self, batch: RecordBatch) -> Result<(), LibraryError> {
        let view = EventsView::new(&batch)?;
        let mut holds = false;
        for i in 0..view.len() {
            let event = view.row(i);
            let Some(subject) = event.subject else { continue };
            match self.links.see(&event) {
                Seen::Row(_) if event.code == TOKEN => {}
                Seen::Row(_) if event.op == Op::Assert => {
                    holds = true;
                    let place = (self.batches.len(), i);
                    self.facts.entry(subject).or_default().insert(event.event_key, place);
                }
                Seen::Row(_) => self.withdraw(subject, &[event.event_key]),
                Seen::Left(keys) => self.withdraw(subject, &keys),
                Seen::LeftAll => drop(self.facts.remove(&subject)),
                Seen::Outdated | Seen::Elsewhere(..) | Seen::Joined => {}
            }
        }
        // A place names a batch by its number, so that only what nothing points to is left out.
        if holds {
            self.batches.push(batch);
        }
        Ok(())
    }

    fn withdraw(&mut self, subject: SubjectId, keys: &[EventKey]) {
        if let Some(facts) = self.facts.get_mut(&subject) {
            for key in keys {
                facts.remove(key);
            }
        }
    }

    /// Writes the partition's files, one a split.
    fn write(self, data: &Path, partition: u32, summary: &mut Summary) -> Result<(), LibraryError> {
        let views = self.batches.iter().map(EventsView::new).collect::<Result<Vec<_>, _>>()?;
        // Null, static, sorts first; rows of one time stay in log order.
        let mut rows: Vec<(SubjectId, Option<Micros>, Place)> = Vec::new();
        for (&subject, facts) in &self.facts {
            for &place in facts.values() {
                let event = views[place.0].row(place.1);
                if !summary.codes.contains(event.code) {
                    summary.codes.insert(event.code.to_owned());
                }
                rows.push((subject, event.time, place));
            }
        }
        rows.sort_unstable();
        let mut files: HashMap<Split, Vec<Place>> = HashMap::new();
        for subject in rows.chunk_by(|a, b| a.0 == b.0) {
            let id = subject[0].0;
            if !summary.seen.insert(id) {
                return Err(LibraryError::Scattered);
            }
            let split = split_of(id);
            summary.splits.push((id, split));
            summary.events += subject.len() as u64;
            files.entry(split).or_default().extend(subject.iter().map(|row| row.2));
        }
        let batches = self.batches.iter().map(projected).collect::<Result<Vec<_>, _>>()?;
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        let schema = data_schema(&summary.extra);
        for (split, places) in files {
            let folder = data.join(split.as_str());
            fs::create_dir_all(&folder).map_err(LibraryError::io(&folder))?;
            let mut file = parquet(folder.join(format!("{partition}.parquet")), Arc::clone(&schema))?;
            for chunk in places.chunks(CHUNK_ROWS) {
                let mut columns = interleave_record_batch(&batches, chunk)?.columns().to_vec();
                if let Some(objects) = columns.pop() {
                    columns.extend(summary.extra.columns(objects.as_string::<i32>()));
                }
                file.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
            }
            file.close()?;
        }
        Ok(())
    }
}

/// What `metadata/` says of the data.
#[derive(Default)]
struct Summary {
    codes: BTreeSet<String>,
    splits: Vec<(SubjectId, Split)>,
    seen: HashSet<SubjectId>,
    events: u64,
    extra: ExtraColumns,
}

impl Summary {
    fn write(&mut self, folder: &Path) -> Result<(), LibraryError> {
        let parents =
            ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, true)).finish();
        let codes = Arc::new(Schema::new(vec![
            Field::new("code", DataType::Utf8, false),
            Field::new("description", DataType::Utf8, true),
            Field::new("parent_codes", arrow::array::Array::data_type(&parents).clone(), true),
        ]));
        let batch = RecordBatch::try_new(
            Arc::clone(&codes),
            vec![
                Arc::new(StringArray::from_iter_values(&self.codes)),
                new_null_array(&DataType::Utf8, self.codes.len()),
                new_null_array(codes.field(2).data_type(), self.codes.len()),
            ],
        )?;
        write_whole(folder.join("codes.parquet"), &batch)?;

        self.splits.sort_unstable_by_key(|split| split.0);
        let splits = Arc::new(Schema::new(vec![
            Field::new("subject_id", DataType::Int64, false),
            Field::new("split", DataType::Utf8, false),
        ]));
        let batch = RecordBatch::try_new(
            splits,
            vec![
                Arc::new(Int64Array::from_iter_values(self.splits.iter().map(|split| split.0.0))),
                Arc::new(StringArray::from_iter_values(self.splits.iter().map(|split| split.1.as_str()))),
            ],
        )?;
        write_whole(folder.join("subject_splits.parquet"), &batch)?;

        let dataset = json!({
            "dataset_name": "auscult case library",
            "dataset_version": env!("CARGO_PKG_VERSION"),
            "etl_name": ETL,
            "etl_version": env!("CARGO_PKG_VERSION"),
            "meds_version": MEDS,
            "created_at": chrono::Utc::now().to_rfc3339(),
            "other_extension_columns": EXTENSIONS.into_iter().chain(self.extra.names()).collect::<Vec<_>>(),
        });
        let path = folder.join("dataset.json");
        fs::write(&path, format!("{dataset:#}\n")).map_err(LibraryError::io(path))
    }
}

/// The MEDS columns and the extensions, in the order in which they are written.
const COLUMNS: [usize; 11] = [
    column::SUBJECT_ID,
    column::TIME,
    column::CODE,
    column::NUMERIC_VALUE,
    column::TEXT_VALUE,
    column::UNIT,
    column::CONCEPT,
    column::RECORDED_AT,
    column::ENCOUNTER_ID,
    column::SOURCE,
    column::IMPLAUSIBLE,
];

/// Those columns of rows of the history, and last what they say beyond the event schema.
fn projected(batch: &RecordBatch) -> Result<RecordBatch, LibraryError> {
    let extra = batch.schema_ref().index_of(EXTRA)?;
    Ok(batch.project(&[COLUMNS.as_slice(), &[extra]].concat())?)
}

fn data_schema(extra: &ExtraColumns) -> SchemaRef {
    let events = schema();
    let field = |&i: &usize| {
        let field = events.field(i).clone();
        if i == column::SUBJECT_ID { field.with_nullable(false) } else { field }
    };
    Arc::new(Schema::new(COLUMNS.iter().map(field).chain(extra.fields()).collect::<Vec<_>>()))
}

fn parquet(path: PathBuf, schema: SchemaRef) -> Result<ArrowWriter<File>, LibraryError> {
    let file = File::create(&path).map_err(LibraryError::io(path))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?)).build();
    Ok(ArrowWriter::try_new(file, schema, Some(properties))?)
}

fn write_whole(path: PathBuf, batch: &RecordBatch) -> Result<(), LibraryError> {
    let mut writer = parquet(path, batch.schema())?;
    writer.write(batch)?;
    writer.close()?;
    Ok(())
}
