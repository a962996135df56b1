//! The matrices of one shard.
//!
//! A shard is read twice: once to count what each subject's part of each matrix will hold, once to write
//! it. In between every part has its place in the files, so that nothing but one subject and some
//! buffers a thread is ever in memory, and no thread waits for another.

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread;

use arrow::array::{Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::aggregate::Aggregate;
use super::columns::Columns;
use super::group::{Buffers, Extent, Group};
use super::history::History;
use super::slide::Slide;
use super::window::Window;
use super::{Each, Tabular, TabularReport};
use crate::learn::LearnError;

/// Rows of a row group of `rows.parquet`.
const ROW_GROUP: usize = 128 * 1024;

/// Gives every subject of a shard, always the same and in the same order.
pub(super) type Scan<'a> = dyn FnMut(&mut Each<'_>) -> Result<(), LearnError> + 'a;

/// One window of one subject, to be done by some thread.
struct Job {
    /// Number of the subject among those that have a row.
    subject: usize,
    /// Number of the window.
    window: usize,
    history: Arc<History>,
}

/// What a thread needs for any job.
struct Worker {
    slide: Slide,
    /// For the code and for the value matrices.
    buffers: [Buffers; 2],
}

/// What a subject's part of the matrices of a window holds.
#[derive(Copy, Clone, Default)]
pub(super) struct Part {
    pub(super) codes: Extent,
    pub(super) values: Extent,
}

/// The files of a window.
struct Files {
    codes: Option<Group>,
    values: Option<Group>,
}

/// Writes the matrices of a shard, and the file that names their rows, into its folder.
pub(super) fn write_shard(
    tabular: &Tabular,
    columns: &Columns,
    folder: &Path,
    scan: &mut Scan<'_>,
) -> Result<TabularReport, LearnError> {
    fs::create_dir_all(folder).map_err(LearnError::io(folder))?;
    let parts = count(tabular, columns, folder, scan)?;
    // The end of the last part is the size of the whole.
    let ends: Vec<Part> = parts.iter().map(|parts| parts.last().copied().unwrap_or_default()).collect();
    let mut files = Vec::new();
    for (window, end) in tabular.windows.iter().zip(&ends) {
        files.push(Files::new(&folder.join(window.name()), &tabular.aggregates, columns, *end)?);
    }
    let write = |worker: &mut Worker, job: &Job| {
        let (files, parts) = (&files[job.window], &parts[job.window]);
        // The shard has more subjects than at the first reading.
        let end = *parts.get(job.subject).ok_or(LearnError::ChangedMeanwhile)?;
        let begin = job.subject.checked_sub(1).map_or(Part::default(), |before| parts[before]);
        files.write(&tabular.windows[job.window], job, worker, begin, end)
    };
    let subjects = pass(tabular, columns, scan, &mut |_| Ok(()), &write)?;
    if parts.iter().any(|parts| parts.len() != subjects) {
        return Err(LearnError::ChangedMeanwhile);
    }
    let mut report = TabularReport { rows: ends.first().map_or(0, |end| end.codes.rows), ..TabularReport::default() };
    for (files, end) in files.into_iter().zip(&ends) {
        for aggregate in &tabular.aggregates {
            report.stored += if aggregate.is_of_codes() { end.codes.stored } else { end.values.stored };
        }
        for group in [files.codes, files.values].into_iter().flatten() {
            report.bytes += group.finish()?;
        }
    }
    Ok(report)
}

/// The first reading: names the rows, and gives where every subject's part of every window's matrices ends.
pub(super) fn count(
    tabular: &Tabular,
    columns: &Columns,
    folder: &Path,
    scan: &mut Scan<'_>,
) -> Result<Vec<Vec<Part>>, LearnError> {
    let parts: Vec<Mutex<Vec<Part>>> = tabular.windows.iter().map(|_| Mutex::default()).collect();
    let measure = |worker: &mut Worker, job: &Job| {
        let mut part = Part::default();
        worker.slide.run(&job.history, &tabular.windows[job.window], &mut |slide| {
            part.codes.rows += 1;
            part.codes.stored += slide.code_columns().len() as u64;
            part.values.rows += 1;
            part.values.stored += slide.value_columns().len() as u64;
            Ok(())
        })?;
        let mut parts = parts[job.window].lock().map_err(|_| LearnError::Interrupted)?;
        if parts.len() <= job.subject {
            parts.resize(job.subject + 1, Part::default());
        }
        parts[job.subject] = part;
        Ok(())
    };
    let mut rows = Rows::new(folder)?;
    pass(tabular, columns, scan, &mut |history| rows.add(history), &measure)?;
    rows.finish()?;
    let mut ends = Vec::new();
    for parts in parts {
        let mut parts = parts.into_inner().map_err(|_| LearnError::Interrupted)?;
        let mut end = Part::default();
        for part in &mut parts {
            for (end, part) in [(&mut end.codes, part.codes), (&mut end.values, part.values)] {
                *end = Extent { rows: end.rows + part.rows, stored: end.stored + part.stored };
            }
            *part = end;
        }
        ends.push(parts);
    }
    Ok(ends)
}

/// Reads a shard once, telling `read` of every subject that has a row, in order, and has `job` done for
/// each of them and each window, in any order on any thread. Gives back the number of these subjects.
fn pass(
    tabular: &Tabular,
    columns: &Columns,
    scan: &mut Scan<'_>,
    read: &mut dyn FnMut(&History) -> Result<(), LearnError>,
    job: &(dyn Fn(&mut Worker, &Job) -> Result<(), LearnError> + Sync),
) -> Result<usize, LearnError> {
    // More than cores: a thread that writes waits for the disk.
    let threads = 2 * thread::available_parallelism().map_or(1, usize::from);
    let (sender, receiver) = sync_channel::<Job>(threads);
    let receiver = Arc::new(Mutex::new(receiver));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let receiver = Arc::clone(&receiver);
                scope.spawn(move || {
                    let slide = Slide::new(columns.codes(), columns.values());
                    let mut worker = Worker { slide, buffers: Default::default() };
                    loop {
                        let next = receiver.lock().map_err(|_| LearnError::Interrupted)?.recv();
                        let Ok(next) = next else { return Ok::<_, LearnError>(()) };
                        job(&mut worker, &next)?;
                    }
                })
            })
            .collect();
        // The workers alone hold it now: when all have failed, nothing more can be sent.
        drop(receiver);
        let mut subjects = 0;
        let scanned = scan(&mut |subject, rows| {
            let history = History::new(subject, rows, columns);
            if history.moments.is_empty() {
                return Ok(());
            }
            read(&history)?;
            let history = Arc::new(history);
            for window in 0..tabular.windows.len() {
                let job = Job { subject: subjects, window, history: Arc::clone(&history) };
                sender.send(job).map_err(|_| LearnError::Interrupted)?;
            }
            subjects += 1;
            Ok(())
        });
        drop(sender);
        // A worker's error says more than that nothing could be sent.
        for worker in workers {
            worker.join().map_err(|_| LearnError::Interrupted)??;
        }
        scanned.map(|()| subjects)
    })
}

impl Files {
    fn new(folder: &Path, aggregates: &[Aggregate], columns: &Columns, size: Part) -> Result<Self, LearnError> {
        let (codes, values): (Vec<Aggregate>, Vec<Aggregate>) =
            aggregates.iter().partition(|aggregate| aggregate.is_of_codes());
        let group = |aggregates: &[Aggregate], columns, size| match aggregates {
            [] => Ok(None),
            _ => Group::new(folder, aggregates, columns, size).map(Some),
        };
        Ok(Files {
            codes: group(&codes, columns.codes(), size.codes)?,
            values: group(&values, columns.values(), size.values)?,
        })
    }

    /// Writes one subject's part of the files.
    fn write(&self, window: &Window, job: &Job, worker: &mut Worker, begin: Part, end: Part) -> Result<(), LearnError> {
        let Worker { slide, buffers } = worker;
        let groups = [(&self.codes, begin.codes, end.codes), (&self.values, begin.values, end.values)];
        let mut parts: Vec<_> = groups
            .into_iter()
            .zip(buffers)
            .filter_map(|((group, begin, end), buffers)| Some(group.as_ref()?.part(job.subject, begin, end, buffers)))
            .collect();
        slide.run(&job.history, window, &mut |slide| parts.iter_mut().try_for_each(|part| part.push(slide)))?;
        parts.into_iter().try_for_each(|part| part.finish())
    }
}

/// `rows.parquet`: the subject and the time of every row.
struct Rows {
    schema: Arc<Schema>,
    writer: ArrowWriter<File>,
    subjects: Vec<i64>,
    times: Vec<i64>,
}

impl Rows {
    fn new(folder: &Path) -> Result<Self, LearnError> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("subject_id", DataType::Int64, false),
            Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        ]));
        let path = folder.join("rows.parquet");
        let file = File::create(&path).map_err(LearnError::io(&path))?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?)).build();
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))?;
        Ok(Rows { schema, writer, subjects: Vec::new(), times: Vec::new() })
    }

    fn add(&mut self, history: &History) -> Result<(), LearnError> {
        for moment in &history.moments {
            self.subjects.push(history.subject.0);
            self.times.push(moment.time);
        }
        if self.times.len() >= ROW_GROUP { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), LearnError> {
        let (subjects, times) = (std::mem::take(&mut self.subjects), std::mem::take(&mut self.times));
        let columns = vec![
            Arc::new(Int64Array::from(subjects)) as arrow::array::ArrayRef,
            Arc::new(TimestampMicrosecondArray::from(times)),
        ];
        self.writer.write(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?)?;
        Ok(self.writer.flush()?)
    }

    fn finish(mut self) -> Result<(), LearnError> {
        self.flush()?;
        self.writer.close()?;
        Ok(())
    }
}
