//! `import`: history straight into the case library.
//!
//! Through the same decode and normalize code as the daemon. What the library knows
//! already, by its key and content, is dropped, so a file imported twice adds nothing.
//!
//! Links between identifiers are not followed: to decide about them in one order, and to move what
//! they concern once, takes the log. Their number is told. Fed to the daemon afterwards such
//! records move what was imported, since the fold that recovers begins with it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::mapping::{mapping_for, table};
use super::records::{Records, records};
use super::{CliError, SiteArgs, print, runtime, spinner};
use crate::decode::csv::Mapping;
use crate::events::{EventKey, EventsView, SubjectId};
use crate::library::{Library, fingerprint, read_meds};
use crate::normalize::{Normalizer, Outcome, Record};
use crate::roles::Site;
use crate::settings::Format;

/// Rows that are gathered before they are written: bounds memory, keeps files large.
const ROWS: usize = 1_000_000;
/// Bytes of one batch through the plan.
const BATCH_BYTES: usize = 8 << 20;

/// Arguments of `import`.
#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// What the files are
    #[arg(long, value_enum, default_value = "flat")]
    format: ImportFormat,
    /// What the columns of a CSV file mean, in TOML
    #[arg(long, value_name = "FILE", required_if_eq("format", "csv"))]
    mapping: Option<PathBuf>,
    /// Files, or - for standard input; for meds a Parquet file or the root of a dataset
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
enum ImportFormat {
    /// Flat JSON, one event a line
    Flat,
    /// FHIR R4 JSON, a Bundle or a resource
    Fhir,
    /// HL7 v2
    Hl7v2,
    /// MEDS, de-identified already
    Meds,
    /// CSV, long or wide, as --mapping says
    Csv,
}

#[derive(Serialize, Default, Debug)]
struct Summary {
    read: u64,
    accepted: u64,
    dead_letters: u64,
    dropped: u64,
    events: u64,
    seconds: f64,
}

pub(super) fn run(args: ImportArgs) -> Result<(), CliError> {
    let site = args.site.load()?;
    let mapping = mapping_of(&args)?;
    for path in args.paths.iter().filter(|path| path.as_os_str() != "-") {
        // Before anything is written, so that a slip in the last name imports nothing.
        std::fs::metadata(path).map_err(|cause| CliError::File { path: path.display().to_string(), cause })?;
    }
    let started = Instant::now();
    let mut import = Import::open(&site)?;
    for path in &args.paths {
        match args.format {
            ImportFormat::Flat => import.records(path, Format::Flat)?,
            ImportFormat::Fhir => import.records(path, Format::Fhir)?,
            ImportFormat::Hl7v2 => import.records(path, Format::Hl7v2)?,
            ImportFormat::Meds => import.meds(path)?,
            ImportFormat::Csv => {
                if let Some(mapping) = &mapping {
                    import.rows(path, mapping)?;
                }
            }
        }
    }
    import.write()?;
    import.bar.finish_and_clear();
    for (reason, dead) in &import.reasons {
        eprintln!("dead letters: {} for {reason}{}", dead.count, dead.first);
    }
    for (kind, count) in &import.unread {
        eprintln!("not read: {count} {kind}");
    }
    for (kind, count) in &import.lenient {
        eprintln!("read although irregular: {count} {kind}");
    }
    if import.links > 0 {
        eprintln!(
            "links: {} statements of who is who are not followed here; feed these records to the daemon too",
            import.links
        );
    }
    import.summary.seconds = started.elapsed().as_secs_f64();
    print(&import.summary)
}

/// The mapping of a CSV import.
fn mapping_of(args: &ImportArgs) -> Result<Option<Arc<Mapping>>, CliError> {
    match &args.mapping {
        None => Ok(None),
        Some(_) if args.format != ImportFormat::Csv => Err(CliError::Usage("--mapping is for --format csv".to_owned())),
        Some(path) => mapping_for(path, &args.paths).map(Some),
    }
}

/// Dead letters of one reason.
#[derive(Debug)]
struct Dead {
    count: u64,
    /// Where the first is, in words; empty where records have no numbers.
    first: String,
}

struct Import<'s> {
    site: &'s Site,
    runtime: tokio::runtime::Runtime,
    library: Library,
    normalizer: Normalizer,
    /// Every content that every fact of the library ever had.
    known: HashSet<(EventKey, u64)>,
    /// The latest content of every fact read in this run, so that a value corrected and set back stays. Not of MEDS
    /// data, where no two rows have one key.
    latest: HashMap<EventKey, u64>,
    /// Whose rows were in the MEDS data read so far.
    met: HashSet<SubjectId>,
    waiting: Vec<RecordBatch>,
    rows: usize,
    summary: Summary,
    /// Dead letters by reason and detail.
    reasons: BTreeMap<String, Dead>,
    /// What no record's facts hold: FHIR resources by type, HL7 v2 segments by name.
    unread: BTreeMap<&'static str, u64>,
    /// What was read although it is irregular.
    lenient: BTreeMap<&'static str, u64>,
    /// Statements of who is who.
    links: u64,
    bar: indicatif::ProgressBar,
}

impl<'s> Import<'s> {
    fn open(site: &'s Site) -> Result<Self, CliError> {
        let runtime = runtime()?;
        let library = runtime.block_on(Library::open(&site.settings.library))?;
        let pseudonyms = site.pseudonyms().map_err(|problem| CliError::Site(vec![problem]))?;
        Ok(Import {
            site,
            normalizer: site.normalizer(pseudonyms).map_err(CliError::Site)?,
            known: runtime.block_on(library.contents())?,
            latest: HashMap::new(),
            met: HashSet::new(),
            library,
            runtime,
            waiting: Vec::new(),
            rows: 0,
            summary: Summary::default(),
            reasons: BTreeMap::new(),
            unread: BTreeMap::new(),
            lenient: BTreeMap::new(),
            links: 0,
            bar: spinner("importing"),
        })
    }

    fn records(&mut self, path: &Path, format: Format) -> Result<(), CliError> {
        self.all(path, records(path, format)?, format, self.site.settings.limits.batch_records)
    }

    /// The rows of a CSV file.
    fn rows(&mut self, path: &Path, mapping: &Arc<Mapping>) -> Result<(), CliError> {
        let (table, rows) = table(path, mapping)?;
        self.normalizer.read_rows_of(table);
        // A row is as many facts as the mapping finds in it, and those are what takes memory.
        let most = self.site.settings.limits.batch_records / mapping.rules.len().max(1);
        self.all(path, rows, Format::Csv, most.max(1))
    }

    /// All records of a file, at most `most` in a batch.
    fn all(&mut self, path: &Path, records: Records, format: Format, most: usize) -> Result<(), CliError> {
        // Of CSV no topic is: its identifiers are those of flat records.
        let like = if format == Format::Csv { Format::Flat } else { format };
        // A file's name may name a patient; the events only need to tell files apart.
        let name = format!("import-{}", &blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex()[..12]);
        let assigner = self
            .site
            .settings
            .topics
            .raw
            .iter()
            .find(|raw| raw.format == like)
            .map_or("", |raw| raw.assigner.as_str())
            .to_owned();
        let mut batch: Vec<Vec<u8>> = Vec::new();
        let (mut bytes, mut first) = (0, 0i64);
        for record in records {
            let record = record?;
            bytes += record.len();
            batch.push(record);
            if bytes >= BATCH_BYTES || batch.len() >= most {
                self.batch(path, &batch, &name, first, format, &assigner)?;
                first += batch.len() as i64;
                batch.clear();
                bytes = 0;
            }
        }
        self.batch(path, &batch, &name, first, format, &assigner)
    }

    fn batch(
        &mut self,
        path: &Path,
        batch: &[Vec<u8>],
        name: &str,
        first: i64,
        format: Format,
        assigner: &str,
    ) -> Result<(), CliError> {
        let records: Vec<Record<'_>> = batch
            .iter()
            .zip(first..)
            .map(|(bytes, offset)| Record {
                topic: name,
                partition: 0,
                offset,
                timestamp: None,
                format,
                assigner,
                bytes,
            })
            .collect();
        let normalized = self.normalizer.run(&records)?;
        for (counts, counted) in [(&mut self.unread, &normalized.unread), (&mut self.lenient, &normalized.lenient)] {
            for (kind, count) in counted {
                *counts.entry(kind).or_default() += count;
            }
        }
        self.links += normalized.statements.len() as u64;
        let kept = self.keep_new(&normalized.events)?;
        // The tokens of new subjects stand at the head.
        let facts: usize = normalized.outcomes.iter().map(Outcome::events).sum();
        let mut row = normalized.events.num_rows() - facts;
        for (outcome, number) in normalized.outcomes.iter().zip(first + 1..) {
            self.summary.read += 1;
            match outcome {
                Outcome::Accepted { events } => {
                    let rows = row..row + *events as usize;
                    row = rows.end;
                    // A record that brought nothing new is a redelivery.
                    if rows.clone().any(|row| kept.value(row)) {
                        self.summary.accepted += 1;
                    } else {
                        self.summary.dropped += 1;
                    }
                }
                Outcome::Dead(reject) => {
                    self.summary.dead_letters += 1;
                    let reason = format!("{} ({})", reject.reason.as_str(), reject.detail);
                    let first = || format!("; the first is record {number} of {}", path.display());
                    self.reasons.entry(reason).or_insert_with(|| Dead { count: 0, first: first() }).count += 1;
                }
                Outcome::Dropped(_) => self.summary.dropped += 1,
            }
        }
        self.add(filter(&normalized.events, &kept)?)
    }

    fn meds(&mut self, path: &Path) -> Result<(), CliError> {
        let mut reader = read_meds(path)?;
        let (mut own, mut is_apart) = (HashSet::new(), true);
        for batch in reader.by_ref() {
            let batch = batch?;
            let of = subjects(&batch)?;
            if is_apart && !self.met.is_disjoint(&of) {
                // What was read of them before must be known.
                self.write()?;
                self.known = self.runtime.block_on(self.library.contents())?;
                is_apart = false;
            }
            own.extend(of);
            let kept = self.keep_unknown(&batch)?;
            let new = kept.true_count() as u64;
            self.summary.read += batch.num_rows() as u64;
            self.summary.accepted += new;
            self.summary.dropped += batch.num_rows() as u64 - new;
            self.add(filter(&batch, &kept)?)?;
        }
        for column in reader.unkept() {
            eprintln!("not kept: column '{column}', a list, a struct or of the name of another column of events");
        }
        for (column, count) in reader.refused() {
            self.summary.read += count;
            self.summary.dead_letters += count;
            let reason = format!("field (column '{column}' is null)");
            self.reasons.entry(reason).or_insert(Dead { count: 0, first: String::new() }).count += count;
        }
        self.met.extend(own);
        Ok(())
    }

    /// Which rows, no two of which have one key, say something that the library does not hold yet.
    fn keep_unknown(&self, batch: &RecordBatch) -> Result<BooleanArray, CliError> {
        let view = EventsView::new(batch)?;
        let is_unknown = |row| {
            let event = view.row(row);
            self.known.is_empty() || !self.known.contains(&(event.event_key, fingerprint(&event)))
        };
        Ok((0..view.len()).map(|row| Some(is_unknown(row))).collect())
    }

    /// Which rows say something that the library does not hold yet.
    fn keep_new(&mut self, batch: &RecordBatch) -> Result<BooleanArray, CliError> {
        let view = EventsView::new(batch)?;
        Ok((0..view.len())
            .map(|row| {
                let event = view.row(row);
                let content = fingerprint(&event);
                let is_latest = self.latest.insert(event.event_key, content) == Some(content);
                Some(!is_latest && !self.known.contains(&(event.event_key, content)))
            })
            .collect())
    }

    fn add(&mut self, batch: RecordBatch) -> Result<(), CliError> {
        self.rows += batch.num_rows();
        self.summary.events += batch.num_rows() as u64;
        self.waiting.push(batch);
        self.bar.set_message(format!("read {}", self.summary.read));
        if self.rows >= ROWS { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), CliError> {
        let batches = std::mem::take(&mut self.waiting);
        if self.rows > 0 {
            self.bar.set_message("writing the library");
            let partitions = self.site.settings.topics.partitions;
            self.runtime.block_on(self.library.append_history(batches, partitions))?;
        }
        self.rows = 0;
        Ok(())
    }
}

/// Whose the rows of a batch are.
fn subjects(batch: &RecordBatch) -> Result<HashSet<SubjectId>, CliError> {
    let view = EventsView::new(batch)?;
    Ok((0..view.len()).filter_map(|row| view.subject(row)).collect())
}

fn filter(batch: &RecordBatch, kept: &BooleanArray) -> Result<RecordBatch, CliError> {
    filter_record_batch(batch, kept).map_err(|error| CliError::Failed(format!("arrow cannot filter a batch: {error}")))
}
