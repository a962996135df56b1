//! Rows of messages, hashed: from a topic and from a table of the library alike.

use std::collections::VecDeque;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::row::{RowConverter, SortField};
use tokio::runtime::Handle;

use super::archive::Message;
use crate::library::{History, LibraryError, Table};

/// Hashes rows of one table, all columns.
#[derive(Debug)]
pub(super) struct Rows {
    table: Table,
    converter: RowConverter,
}

impl Rows {
    /// Rows of a table.
    ///
    /// # Errors
    /// If Arrow does not know how to order one of its columns.
    pub(super) fn of(table: Table) -> Result<Self, LibraryError> {
        let fields = table.schema().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        Ok(Rows { table, converter: RowConverter::new(fields)? })
    }

    /// Shows each row of a batch, in the schema of the table: its position and all its bytes.
    fn each(&self, batch: &RecordBatch, mut each: impl FnMut(i64, &[u8])) -> Result<(), LibraryError> {
        let wrong = || LibraryError::Column { table: self.table, column: "position".to_owned() };
        let positions = batch.column_by_name("position").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let positions = positions.ok_or_else(wrong)?;
        let rows = self.converter.convert_columns(batch.columns())?;
        for (row, position) in rows.iter().zip(positions.values()) {
            each(*position, row.as_ref());
        }
        Ok(())
    }

    /// The message whose rows these are.
    pub(super) fn message(&self, position: i64, batch: &RecordBatch) -> Result<Message, LibraryError> {
        let mut open = Open::new(position);
        self.each(batch, |_, row| open.add(row))?;
        Ok(open.close())
    }
}

/// A message whose rows are still coming.
#[derive(Debug)]
struct Open {
    position: i64,
    rows: u64,
    hasher: Box<blake3::Hasher>,
}

impl Open {
    fn new(position: i64) -> Self {
        Open { position, rows: 0, hasher: Box::new(blake3::Hasher::new()) }
    }

    fn add(&mut self, row: &[u8]) {
        self.rows += 1;
        self.hasher.update(&(row.len() as u64).to_le_bytes()).update(row);
    }

    fn close(self) -> Message {
        Message { position: self.position, rows: self.rows, hash: *self.hasher.finalize().as_bytes() }
    }
}

/// The messages of a partition of a table, in order.
pub(super) struct Shelved {
    runtime: Handle,
    history: History,
    rows: Rows,
    ready: VecDeque<Message>,
    open: Option<Open>,
    has_ended: bool,
}

impl Shelved {
    pub(super) fn new(runtime: Handle, history: History, rows: Rows) -> Self {
        Shelved { runtime, history, rows, ready: VecDeque::new(), open: None, has_ended: false }
    }

    /// Reads on until a message is whole.
    fn read(&mut self) -> Result<(), LibraryError> {
        let Some(batch) = self.runtime.block_on(self.history.next())? else {
            self.has_ended = true;
            self.ready.extend(self.open.take().map(Open::close));
            return Ok(());
        };
        let (open, ready) = (&mut self.open, &mut self.ready);
        self.rows.each(&batch, |position, row| {
            if open.as_ref().is_some_and(|open| open.position != position) {
                ready.extend(open.take().map(Open::close));
            }
            open.get_or_insert_with(|| Open::new(position)).add(row);
        })
    }
}

impl Iterator for Shelved {
    type Item = Result<Message, LibraryError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.has_ended {
            if let Err(error) = self.read() {
                self.has_ended = true;
                return Some(Err(error));
            }
        }
        self.ready.pop_front().map(Ok)
    }
}
