//! The files of one window whose matrices have the same columns: `code/*`, or `value/*`.
//!
//! They differ in their data alone, so that their layout, column numbers and ends of rows are made once.
//! Where a subject's part goes is known before it is made. So parts are written in any order, by any
//! number of threads, and each is in memory only as far as it has not filled a buffer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use arrow::datatypes::ToByteSlice as _;
use flate2::Crc;

use super::aggregate::Aggregate;
use super::npz::{Checksums, DATA_BYTES, INDEX_BYTES, INDPTR_BYTES, Layout};
use super::slide::Slide;
use super::target::{Blocks, Target};
use crate::learn::LearnError;

/// Values of a buffer: a mebibyte.
const BUFFER: usize = 256 * 1024;

/// Where a subject's part of a group begins, or how large it is.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Extent {
    pub(super) rows: u64,
    pub(super) stored: u64,
}

/// Matrices being written.
#[derive(Debug)]
pub(super) struct Group {
    matrices: Vec<Matrix>,
    layout: Layout,
    checked: Mutex<Checked>,
}

#[derive(Debug)]
struct Matrix {
    aggregate: Aggregate,
    target: Target,
}

/// Checksums of what a group or a part has written. That of a whole needs those of its parts in order.
#[derive(Default, Debug)]
struct Sums {
    indices: Crc,
    indptr: Crc,
    /// By matrix.
    data: Vec<Crc>,
}

impl Sums {
    /// Of nothing yet.
    fn of(matrices: usize) -> Self {
        let data = std::iter::repeat_with(Crc::new).take(matrices).collect();
        Sums { indices: Crc::new(), indptr: Crc::new(), data }
    }
}

#[derive(Default, Debug)]
struct Checked {
    parts: usize,
    sums: Sums,
    /// Parts that are done before one that comes before them.
    early: BTreeMap<usize, Sums>,
}

/// Buffers of a thread, used again for every part.
#[derive(Default, Debug)]
pub(super) struct Buffers {
    indices: Vec<i32>,
    indptr: Vec<i64>,
    /// By matrix.
    data: Vec<Vec<f32>>,
    blocks: Blocks,
}

impl Group {
    /// Makes the files of some aggregates of a window in its folder, for matrices of a size.
    pub(super) fn new(
        folder: &Path,
        aggregates: &[Aggregate],
        columns: usize,
        size: Extent,
    ) -> Result<Self, LearnError> {
        let layout = Layout::new(size.rows, columns as u64, size.stored);
        let mut matrices = Vec::new();
        for &aggregate in aggregates {
            let path = folder.join(format!("{}.npz", aggregate.as_str()));
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(LearnError::io(parent))?;
            }
            matrices.push(Matrix { aggregate, target: Target::create(path, layout.length())? });
        }
        // The ends of the rows begin with that of no row.
        let mut sums = Sums::of(matrices.len());
        let zero = 0_i64.to_ne_bytes();
        sums.indptr.update(&zero);
        let group = Group { matrices, layout, checked: Mutex::new(Checked { sums, ..Checked::default() }) };
        for matrix in &group.matrices {
            matrix.target.write(&zero, group.layout.indptr_at())?;
        }
        Ok(group)
    }

    /// Begins the part of the subject with this number, which fills `begin..end`; the first has the number 0.
    pub(super) fn part<'a>(&'a self, number: usize, begin: Extent, end: Extent, buffers: &'a mut Buffers) -> Part<'a> {
        buffers.data.resize_with(self.matrices.len(), Vec::new);
        Part { group: self, number, at: begin, end, buffers, sums: Sums::of(self.matrices.len()) }
    }

    /// Ends the files once all parts are finished. Gives back the bytes of all files.
    pub(super) fn finish(self) -> Result<u64, LearnError> {
        let checked = self.checked.into_inner().map_err(|_| LearnError::Interrupted)?;
        let Sums { indices, indptr, data } = checked.sums;
        let mut checksums = Checksums { indices, indptr, data: Crc::new() };
        for (matrix, data) in self.matrices.iter().zip(data) {
            checksums.data = data;
            for (at, piece) in self.layout.frame(&checksums) {
                matrix.target.write(&piece, at)?;
            }
        }
        Ok(self.matrices.len() as u64 * self.layout.length())
    }
}

/// The rows of one subject in a group's files, being written.
#[derive(Debug)]
pub(super) struct Part<'a> {
    group: &'a Group,
    number: usize,
    /// What is in the files or another part's; the buffers follow.
    at: Extent,
    end: Extent,
    buffers: &'a mut Buffers,
    sums: Sums,
}

impl Part<'_> {
    /// Adds the row at which a slide stands.
    pub(super) fn push(&mut self, slide: &Slide) -> Result<(), LearnError> {
        let buffers = &mut *self.buffers;
        for (matrix, data) in self.group.matrices.iter().zip(&mut buffers.data) {
            match matrix.aggregate {
                Aggregate::CodeCount => data.extend(slide.counts()),
                Aggregate::ValueCount => data.extend(slide.cells().map(|cell| cell.count)),
                Aggregate::ValueSum => data.extend(slide.cells().map(|cell| cell.sum)),
                Aggregate::ValueSumSqd => data.extend(slide.cells().map(|cell| cell.sum_sqd)),
                Aggregate::ValueMin => data.extend(slide.cells().map(|cell| cell.min)),
                Aggregate::ValueMax => data.extend(slide.cells().map(|cell| cell.max)),
            }
        }
        let of_codes = self.group.matrices.iter().all(|matrix| matrix.aggregate.is_of_codes());
        buffers.indices.extend_from_slice(if of_codes { slide.code_columns() } else { slide.value_columns() });
        buffers.indptr.push((self.at.stored + buffers.indices.len() as u64) as i64);
        if buffers.indices.len() >= BUFFER || buffers.indptr.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends the part, which must have filled what was counted for it.
    pub(super) fn finish(mut self) -> Result<(), LearnError> {
        self.flush()?;
        if self.at != self.end {
            return Err(LearnError::ChangedMeanwhile);
        }
        let mut checked = self.group.checked.lock().map_err(|_| LearnError::Interrupted)?;
        checked.early.insert(self.number, self.sums);
        loop {
            let next = checked.parts;
            let Some(sums) = checked.early.remove(&next) else { return Ok(()) };
            checked.parts += 1;
            checked.sums.indices.combine(&sums.indices);
            checked.sums.indptr.combine(&sums.indptr);
            for (whole, part) in checked.sums.data.iter_mut().zip(&sums.data) {
                whole.combine(part);
            }
        }
    }

    fn flush(&mut self) -> Result<(), LearnError> {
        let (layout, matrices) = (&self.group.layout, &self.group.matrices);
        let Buffers { indices, indptr, data, blocks } = &mut *self.buffers;
        let bytes = indices.to_byte_slice();
        self.sums.indices.update(bytes);
        let targets = matrices.iter().map(|matrix| &matrix.target);
        blocks.write(targets, bytes, layout.indices_at() + self.at.stored * INDEX_BYTES)?;
        let at = layout.data_at() + self.at.stored * DATA_BYTES;
        for ((matrix, data), sum) in matrices.iter().zip(data).zip(&mut self.sums.data) {
            let bytes = data.to_byte_slice();
            sum.update(bytes);
            blocks.write(std::iter::once(&matrix.target), bytes, at)?;
            data.clear();
        }
        let bytes = indptr.to_byte_slice();
        self.sums.indptr.update(bytes);
        for matrix in matrices {
            matrix.target.write(bytes, layout.indptr_at() + (1 + self.at.rows) * INDPTR_BYTES)?;
        }
        self.at.rows += indptr.len() as u64;
        self.at.stored += indices.len() as u64;
        indices.clear();
        indptr.clear();
        Ok(())
    }
}
