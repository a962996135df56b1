//! Imported history: before all live rows, in the order in which it became known.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use arrow::compute::interleave_record_batch;
use deltalake::kernel::Transaction;

use super::append::{CHUNK_ROWS, Writer, commit_rows};
use super::table::{application_version, history_schema};
use super::{Library, LibraryError, Table, convert};
use crate::events::{EventsError, EventsView, Micros, bucket};

/// Position of the first row ever imported. Live positions are not negative.
pub(super) const FIRST: i64 = -(1 << 62);
/// Application transaction that keeps how many rows were imported.
const IMPORTED: &str = "auscult-import";
/// Application transaction that keeps for how many partitions history was imported.
const PARTITIONS: &str = "auscult-import-partitions";

impl Library {
    /// Imports `rows` (event schema, and what MEDS data say beyond it) into the history of `partitions` partitions, in one
    /// commit. Returns the number of rows.
    ///
    /// A row goes to the partition of its subject, and within it stands in the order of
    /// `recorded_at`, then in the order given, after everything imported before. So a
    /// subject's rows must come in one call, or in calls ordered by `recorded_at`. Rows that
    /// are [`known`](Library::known) must have been left out: nothing is compared here.
    ///
    /// # Errors
    /// [`Partitions`](LibraryError::Partitions) where history was imported for another number,
    /// [`Conflict`](LibraryError::Conflict) where another import was first; if a row has no
    /// subject; else whatever the storage says.
    pub async fn append_history(&self, rows: Vec<RecordBatch>, partitions: u32) -> Result<u64, LibraryError> {
        let schema = history_schema();
        let rows =
            rows.iter().map(|batch| convert::conform(batch, &schema, Table::Events)).collect::<Result<Vec<_>, _>>()?;
        let order = in_order(&rows, partitions)?;
        let count = order.values().map(Vec::len).sum::<usize>() as u64;
        if count == 0 {
            return Ok(0);
        }
        let delta = self.open_or_make(Table::Events).await?;
        let have = application_version(&delta, PARTITIONS).await?;
        if let Some(have) = have
            && have != i64::from(partitions)
        {
            return Err(LibraryError::Partitions { have, given: partitions });
        }
        let imported = application_version(&delta, IMPORTED).await?.unwrap_or(0);

        let mut writer = Writer::new(&delta, Table::Events)?;
        let batches: Vec<&RecordBatch> = rows.iter().collect();
        let mut position = FIRST + imported;
        for (&partition, places) in &order {
            let partition = convert::stored_partition(partition, position)?;
            for chunk in places.chunks(CHUNK_ROWS) {
                let next = position + chunk.len() as i64;
                let places: Vec<(usize, usize)> = chunk.iter().map(|&(_, batch, row)| (batch, row)).collect();
                let address = [
                    Arc::new(Int32Array::from_value(partition, chunk.len())) as ArrayRef,
                    Arc::new(Int64Array::from_iter_values(position..next)),
                    Arc::new(Int32Array::from_value(0, chunk.len())),
                ];
                writer.write(&convert::with_address(&interleave_record_batch(&batches, &places)?, address)?).await?;
                position = next;
            }
        }
        let mut transactions = vec![Transaction::new(IMPORTED, position - FIRST)];
        if have.is_none() {
            transactions.push(Transaction::new(PARTITIONS, i64::from(partitions)));
        }
        commit_rows(&delta, Table::Events, writer.finish().await?, transactions).await?;
        Ok(count)
    }
}

/// When a row became known, and where it lies.
type Place = (Micros, usize, usize);

/// The rows of every partition, by `recorded_at` and then as given.
fn in_order(rows: &[RecordBatch], partitions: u32) -> Result<BTreeMap<u32, Vec<Place>>, LibraryError> {
    let mut order: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
    for (at, batch) in rows.iter().enumerate() {
        let view = EventsView::new(batch)?;
        for i in 0..view.len() {
            let event = view.row(i);
            let subject = event.subject.ok_or(EventsError::Cell("subject_id"))?;
            order.entry(bucket(subject, partitions)).or_default().push((event.recorded_at, at, i));
        }
    }
    for places in order.values_mut() {
        places.sort_unstable();
    }
    Ok(order)
}
