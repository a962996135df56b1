//! Rows of features: in memory up to a bound, beyond it in files.
//!
//! Promises that rows come back bit by bit and in the order in which they were pushed, wherever they were
//! meanwhile. Either all of them are in memory, within the bound, or none is but for one block of each writer and
//! reader. The files are Arrow IPC files in a [`Folder`]; they are gone when the last reader is.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::vec;

use arrow::array::{ArrayRef, AsArray as _, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};

use super::LearnError;
use super::folder::Folder;
use crate::models::{Matrix, ModelError};
use crate::settings::Limits;

/// Most bytes of a block.
const BLOCK: usize = 4 << 20;
/// Of the bytes in memory, one part in so many is for the blocks that are being filled.
const FILLING: usize = 4;

/// Room for the feature values of a training or an evaluation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spill {
    /// Most bytes of them in memory at a time; a fit has to do with as many.
    pub bytes: usize,
    /// Folder of the temporary files for those beyond.
    pub folder: PathBuf,
}

impl Spill {
    /// As a site's settings say, with files where the system wants temporary files.
    pub fn of(limits: &Limits) -> Spill {
        Spill { bytes: limits.train_bytes, folder: std::env::temp_dir() }
    }
}

/// Where several writers put rows of one width.
#[derive(Debug)]
pub(super) struct Store {
    schema: SchemaRef,
    /// Rows of a block.
    block: usize,
    /// Bytes that whole blocks may take in memory.
    room: usize,
    /// Bytes of all blocks so far.
    bytes: AtomicUsize,
    parent: PathBuf,
    /// Made for the first file.
    folder: Mutex<Option<Arc<Folder>>>,
    files: AtomicUsize,
}

impl Store {
    /// A store for rows of `columns` values that up to `writers` writers fill at the same time.
    ///
    /// # Errors
    /// [`LearnError::RowTooWide`] if not even one row may be in memory.
    pub(super) fn new(spill: &Spill, columns: usize, writers: usize) -> Result<Arc<Store>, LearnError> {
        let row = columns * size_of::<f32>();
        if row > spill.bytes {
            return Err(LearnError::RowTooWide { columns, bytes: row, limit: spill.bytes });
        }
        let block = (spill.bytes / FILLING / writers.max(1)).min(BLOCK) / row.max(1);
        let block = block.max(1);
        // Missing values are NaN in the files too: nulls would lose which NaN it was.
        let field = |column: usize| Field::new(column.to_string(), DataType::Float32, false);
        Ok(Arc::new(Store {
            schema: Arc::new(Schema::new((0..columns).map(field).collect::<Vec<Field>>())),
            block,
            room: spill.bytes.saturating_sub((block * row).saturating_mul(writers)),
            bytes: AtomicUsize::new(0),
            parent: spill.folder.clone(),
            folder: Mutex::default(),
            files: AtomicUsize::new(0),
        }))
    }

    /// Whether there is more than may be in memory. Once it is, it stays so.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.room
    }

    /// A new file.
    fn file(&self) -> Result<BlockFile, LearnError> {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = match &*folder {
            Some(folder) => Arc::clone(folder),
            None => Arc::clone(folder.insert(Arc::new(Folder::make(&self.parent)?))),
        };
        let path = folder.path().join(self.files.fetch_add(1, Ordering::Relaxed).to_string());
        let file = File::create_new(&path).map_err(|error| failed(&path)(error.into()))?;
        BlockFile::new(file, &self.schema, path, folder)
    }
}

fn failed(path: impl Into<PathBuf>) -> impl FnOnce(ArrowError) -> LearnError {
    move |error| LearnError::Spill { path: path.into(), error }
}

/// Takes rows of one partition.
pub(super) struct Writer {
    store: Arc<Store>,
    /// The block that is being filled, by column.
    columns: Vec<Vec<f32>>,
    /// Its rows.
    rows: usize,
    /// Whole blocks; none if there is a file.
    blocks: Vec<RecordBatch>,
    file: Option<BlockFile>,
}

impl Writer {
    /// No rows yet.
    pub(super) fn new(store: &Arc<Store>) -> Writer {
        let columns = vec![Vec::new(); store.schema.fields().len()];
        Writer { store: Arc::clone(store), columns, rows: 0, blocks: Vec::new(), file: None }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If it has another width, or a file cannot be written.
    pub(super) fn push(&mut self, row: &[f32]) -> Result<(), LearnError> {
        if row.len() != self.columns.len() {
            return Err(ModelError::Columns { expected: self.columns.len(), found: row.len() }.into());
        }
        for (column, value) in self.columns.iter_mut().zip(row) {
            if self.rows == 0 {
                column.reserve_exact(self.store.block);
            }
            column.push(*value);
        }
        self.rows += 1;
        if self.rows == self.store.block { self.close() } else { Ok(()) }
    }

    /// All rows, of which those are read back whose flag in `kept` says so.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn finish(mut self, kept: Vec<bool>) -> Result<Values, LearnError> {
        self.close()?;
        if self.store.is_full() {
            self.spill()?;
        }
        let blocks = match self.file {
            Some(file) => file.finish()?,
            None if self.blocks.is_empty() => return Ok(Values::default()),
            None => Blocks::Memory(self.blocks),
        };
        Ok(Values { stretches: vec![Stretch { blocks, kept }] })
    }

    /// Makes a block of the rows that are not in one yet.
    fn close(&mut self) -> Result<(), LearnError> {
        if self.rows == 0 || self.columns.is_empty() {
            return Ok(());
        }
        let column = |values: &mut Vec<f32>| {
            let mut values = std::mem::take(values);
            values.shrink_to_fit();
            Arc::new(Float32Array::from(values)) as ArrayRef
        };
        let columns = self.columns.iter_mut().map(column).collect();
        let block =
            RecordBatch::try_new(Arc::clone(&self.store.schema), columns).map_err(failed(&self.store.parent))?;
        let bytes = self.rows * self.columns.len() * size_of::<f32>();
        self.store.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.rows = 0;
        self.blocks.push(block);
        if self.store.is_full() { self.spill() } else { Ok(()) }
    }

    /// Moves all blocks out of memory.
    fn spill(&mut self) -> Result<(), LearnError> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(self.store.file()?),
        };
        self.blocks.drain(..).try_for_each(|block| file.write(&block))
    }
}

/// A file of blocks that is being written.
struct BlockFile {
    writer: FileWriter<BufWriter<File>>,
    path: PathBuf,
    folder: Arc<Folder>,
}

impl BlockFile {
    fn new(file: File, schema: &Schema, path: PathBuf, folder: Arc<Folder>) -> Result<BlockFile, LearnError> {
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME));
        let writer =
            options.and_then(|options| FileWriter::try_new_with_options(BufWriter::new(file), schema, options));
        Ok(BlockFile { writer: writer.map_err(failed(&path))?, path, folder })
    }

    fn write(&mut self, block: &RecordBatch) -> Result<(), LearnError> {
        self.writer.write(block).map_err(failed(&self.path))
    }

    fn finish(mut self) -> Result<Blocks, LearnError> {
        self.writer.finish().map_err(failed(&self.path))?;
        Ok(Blocks::File(self.path, self.folder))
    }
}

/// The rows of a writer.
#[derive(Clone, Debug)]
struct Stretch {
    blocks: Blocks,
    /// Of each row whether it is read back.
    kept: Vec<bool>,
}

#[derive(Clone, Debug)]
enum Blocks {
    Memory(Vec<RecordBatch>),
    File(PathBuf, Arc<Folder>),
}

/// The rows of several writers, in order.
#[derive(Clone, Default, Debug)]
pub(super) struct Values {
    stretches: Vec<Stretch>,
}

impl Values {
    /// Adds the rows of others.
    pub(super) fn append(&mut self, mut other: Values) {
        self.stretches.append(&mut other.stretches);
    }

    /// Leaves those rows whose flag says so; one flag for each row that is still there.
    pub(super) fn keep(&mut self, flags: impl IntoIterator<Item = bool>) {
        let there = self.stretches.iter_mut().flat_map(|stretch| &mut stretch.kept).filter(|kept| **kept);
        there.zip(flags).for_each(|(kept, flag)| *kept = flag);
    }

    /// Moves the rows out of memory.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn spill(&mut self, store: &Store) -> Result<(), LearnError> {
        for stretch in &mut self.stretches {
            if let Blocks::Memory(blocks) = &mut stretch.blocks {
                let mut file = store.file()?;
                blocks.drain(..).try_for_each(|block| file.write(&block))?;
                stretch.blocks = file.finish()?;
            }
        }
        Ok(())
    }

    /// Reads the rows, some at a time, none of the matrices empty. What was read is let go.
    pub(super) fn into_blocks(self) -> Reader {
        Reader { stretches: self.stretches.into_iter(), open: None }
    }
}

/// Reads rows block by block.
pub(super) struct Reader {
    stretches: vec::IntoIter<Stretch>,
    open: Option<Open>,
}

impl Iterator for Reader {
    type Item = Result<Matrix, LearnError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(open) = &mut self.open else {
                match self.stretches.next()?.open() {
                    Ok(open) => self.open = Some(open),
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            match open.rows() {
                Ok(Some(rows)) if rows.rows() == 0 => {}
                Ok(None) => self.open = None,
                other => return other.transpose(),
            }
        }
    }
}

/// A stretch that is being read.
struct Open {
    blocks: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>,
    kept: vec::IntoIter<bool>,
    path: PathBuf,
    /// Holds the file.
    _folder: Option<Arc<Folder>>,
}

impl Stretch {
    fn open(self) -> Result<Open, LearnError> {
        let kept = self.kept.into_iter();
        match self.blocks {
            Blocks::Memory(blocks) => {
                let blocks = Box::new(blocks.into_iter().map(Ok));
                Ok(Open { blocks, kept, path: PathBuf::new(), _folder: None })
            }
            Blocks::File(path, folder) => {
                let file = File::open(&path).map_err(|error| failed(&path)(error.into()))?;
                let blocks = Box::new(FileReader::try_new_buffered(file, None).map_err(failed(&path))?);
                Ok(Open { blocks, kept, path, _folder: Some(folder) })
            }
        }
    }
}

impl Open {
    /// Those rows of the next block that are wanted; `None` at the end.
    fn rows(&mut self) -> Result<Option<Matrix>, LearnError> {
        let Some(block) = self.blocks.next().transpose().map_err(failed(&self.path))? else {
            // As many rows must come as were written.
            return if self.kept.len() == 0 { Ok(None) } else { Err(LearnError::ChangedMeanwhile) };
        };
        if block.num_rows() > self.kept.len() {
            return Err(LearnError::ChangedMeanwhile);
        }
        let kept: Vec<bool> = self.kept.by_ref().take(block.num_rows()).collect();
        let column = |column: &ArrayRef| column.as_primitive_opt::<Float32Type>().map(|column| column.values().clone());
        let columns = block.columns().iter().map(column).collect::<Option<Vec<_>>>();
        let columns = columns.ok_or(LearnError::ChangedMeanwhile)?;
        let wanted = kept.iter().filter(|&&kept| kept).count();
        let mut values = Vec::with_capacity(wanted * columns.len());
        for (row, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
            values.extend(columns.iter().map(|column| column[row]));
        }
        Ok(Some(Matrix::from_values(columns.len(), values)?))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// A row and whether it is kept.
    type Made = ([f32; COLUMNS], bool);
    const COLUMNS: usize = 3;
    const ROW: usize = COLUMNS * size_of::<f32>();

    fn bits(rows: impl IntoIterator<Item = f32>) -> Vec<u32> {
        rows.into_iter().map(f32::to_bits).collect()
    }

    /// What comes back of the rows of several partitions that are written at the same time, and how many files
    /// there were meanwhile.
    fn round_trip(partitions: &[Vec<Made>], bytes: usize) -> (Vec<u32>, usize) {
        let parent = tempfile::tempdir().unwrap();
        let spill = Spill { bytes, folder: parent.path().to_owned() };
        let store = Store::new(&spill, COLUMNS, partitions.len()).unwrap();
        let written: Vec<Values> = std::thread::scope(|scope| {
            let write = |partition: &[Made]| {
                let mut writer = Writer::new(&store);
                partition.iter().for_each(|(row, _)| writer.push(row).unwrap());
                writer.finish(partition.iter().map(|(_, kept)| *kept).collect()).unwrap()
            };
            let threads: Vec<_> = partitions.iter().map(|partition| scope.spawn(move || write(partition))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut all = Values::default();
        written.into_iter().for_each(|values| all.append(values));
        if store.is_full() {
            all.spill(&store).unwrap();
        }
        let in_memory = |stretch: &Stretch| matches!(stretch.blocks, Blocks::Memory(_));
        assert!(all.stretches.iter().all(|stretch| in_memory(stretch) != store.is_full()), "all or none");
        drop(store);
        let folders = fs::read_dir(parent.path()).unwrap().map(|folder| folder.unwrap().path());
        let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap()).count().saturating_sub(1);
        let mut back = Vec::new();
        for block in all.into_blocks() {
            let block = block.unwrap();
            assert!(block.rows() > 0 && (block.rows() == 1 || block.rows() * ROW <= bytes));
            back.extend(bits(block.values().iter().copied()));
        }
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0, "the folder is gone");
        (back, files)
    }

    fn rows(seed: u32, count: u32) -> Vec<Made> {
        let value = |i: u32| f32::from_bits((seed + i).wrapping_mul(0x9e37_79b9));
        (0..count).map(|i| ([value(3 * i), value(3 * i + 1), value(3 * i + 2)], i % 3 != 1)).collect()
    }

    #[test]
    fn what_is_more_than_the_bound_lies_in_a_file_for_each_writer() {
        let partitions = [rows(0, 50), rows(1_000, 0), rows(2_000, 70)];
        let wanted = partitions.iter().flatten().filter(|(_, kept)| *kept);
        let wanted = bits(wanted.flat_map(|(row, _)| *row));
        assert_eq!(round_trip(&partitions, usize::MAX), (wanted.clone(), 0));
        assert_eq!(round_trip(&partitions, 2 * 120 * ROW), (wanted.clone(), 0));
        assert_eq!(round_trip(&partitions, 100 * ROW), (wanted.clone(), 2));
        assert_eq!(round_trip(&partitions, ROW), (wanted, 2));
    }

    #[test]
    fn a_row_that_does_not_fit_is_refused_and_one_of_another_width_too() {
        let spill = Spill { bytes: ROW - 1, folder: PathBuf::from("/nowhere") };
        let error = Store::new(&spill, COLUMNS, 1).unwrap_err().to_string();
        assert!(error.starts_with("a row of 3 features takes 12 bytes, limits.train_bytes is 11"), "{error}");
        let store = Store::new(&Spill { bytes: ROW, ..spill }, COLUMNS, 1).unwrap();
        let mut writer = Writer::new(&store);
        assert!(matches!(writer.push(&[1.0]), Err(LearnError::Model(ModelError::Columns { .. }))));
        assert!(matches!(writer.push(&[1.0; COLUMNS]), Err(LearnError::Io { .. })), "there is no such folder");
    }

    #[test]
    fn a_full_disk_is_a_clear_error() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::make(parent.path()).unwrap());
        let store = Store::new(&Spill { bytes: ROW, folder: parent.path().to_owned() }, COLUMNS, 1).unwrap();
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut writer = Writer::new(&store);
        writer.file = Some(BlockFile::new(full, &store.schema, PathBuf::from("/tmp/rows"), folder).unwrap());
        let error = (0..10_000).try_for_each(|_| writer.push(&[1.0; COLUMNS])).unwrap_err().to_string();
        assert!(error.contains("/tmp/rows") && error.contains("No space left"), "{error}");
        assert!(error.contains("TMPDIR") && error.contains("limits.train_bytes"), "{error}");
    }

    #[test]
    fn rows_that_are_lost_on_the_way_are_an_error() {
        let parent = tempfile::tempdir().unwrap();
        let spill = Spill { bytes: usize::MAX, folder: parent.path().to_owned() };
        for flags in [1, 3] {
            let mut writer = Writer::new(&Store::new(&spill, COLUMNS, 1).unwrap());
            writer.push(&[1.0; COLUMNS]).unwrap();
            writer.push(&[2.0; COLUMNS]).unwrap();
            let values = writer.finish(vec![true; flags]).unwrap();
            let read: Result<Vec<Matrix>, LearnError> = values.into_blocks().collect();
            assert!(matches!(read, Err(LearnError::ChangedMeanwhile)), "{flags} flags for 2 rows");
        }
    }

    #[test]
    fn rows_are_taken_out_more_than_once() {
        let spill = Spill { bytes: usize::MAX, folder: PathBuf::new() };
        let store = Store::new(&spill, COLUMNS, 2).unwrap();
        let mut all = Values::default();
        for (first, kept) in [(0_u8, vec![true, false, true]), (3, vec![false, true, true])] {
            let mut writer = Writer::new(&store);
            (first..first + 3).for_each(|i| writer.push(&[f32::from(i); COLUMNS]).unwrap());
            all.append(writer.finish(kept).unwrap());
        }
        let left = |all: &Values| -> Vec<f32> {
            let blocks = all.clone().into_blocks().map(Result::unwrap);
            blocks.flat_map(|block| block.values().iter().step_by(COLUMNS).copied().collect::<Vec<_>>()).collect()
        };
        assert_eq!(left(&all), [0.0, 2.0, 4.0, 5.0]);
        all.keep([true, false, true, true]);
        assert_eq!(left(&all), [0.0, 4.0, 5.0]);
        all.keep([false, false, true]);
        assert_eq!(left(&all), [5.0]);
    }

    proptest! {
        /// Any bits, whatever they are as numbers, in any partitions and under any bound.
        #[test]
        fn rows_come_back_bit_by_bit_with_and_without_files(
            partitions in prop::collection::vec(
                prop::collection::vec((prop::array::uniform3(any::<u32>()), any::<bool>()), 0..40), 0..6),
            bytes in ROW..60 * ROW,
        ) {
            let partitions: Vec<Vec<Made>> = partitions
                .into_iter()
                .map(|rows| rows.into_iter().map(|(row, kept)| (row.map(f32::from_bits), kept)).collect())
                .collect();
            let kept = partitions.iter().flatten().filter(|(_, kept)| *kept);
            let wanted = bits(kept.flat_map(|(row, _)| *row));
            let (spilled, _) = round_trip(&partitions, bytes);
            prop_assert_eq!(&spilled, &wanted);
            prop_assert_eq!(round_trip(&partitions, usize::MAX), (wanted, 0));
        }
    }
}
