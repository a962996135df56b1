//! The table `labels`: what became of predictions.
//!
//! Unlike the others it follows no topic, so no position says how far it is: a prediction is settled if the
//! table has a row with its address. Two writers that saw the same predictions open cannot both settle them,
//! for each commit advances a number that the other has read too.

use arrow::array::RecordBatch;
use deltalake::kernel::Transaction;

use super::append::{CHUNK_ROWS, Writer, commit_rows};
use super::table::application_version;
use super::{Library, LibraryError, Table, convert, passes};

/// Application transaction that counts the commits.
const SETTLEMENTS: &str = "auscult-labels-settlements";

impl Library {
    /// How often labels were settled so far: to be read before the predictions that are open.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn settlements(&self) -> Result<i64, LibraryError> {
        let Some(delta) = self.open_table(Table::Labels).await? else { return Ok(0) };
        Ok(application_version(&delta, SETTLEMENTS).await?.unwrap_or(0))
    }

    /// Adds `rows` (schema of [`Table::Labels`]) in one commit, if nothing was settled since
    /// [`settlements`](Library::settlements) gave `since`.
    ///
    /// # Errors
    /// [`Conflict`](LibraryError::Conflict) if something was; else whatever the storage says.
    pub async fn settle(&self, rows: &RecordBatch, since: i64) -> Result<(), LibraryError> {
        let table = Table::Labels;
        let rows = convert::conform(rows, &table.schema(), table)?;
        let delta = self.open_or_make(table).await?;
        if application_version(&delta, SETTLEMENTS).await?.unwrap_or(0) != since {
            return Err(LibraryError::Conflict { table });
        }
        let mut writer = Writer::new(&delta, table)?;
        for start in (0..rows.num_rows()).step_by(CHUNK_ROWS) {
            writer.write(&rows.slice(start, CHUNK_ROWS.min(rows.num_rows() - start))).await?;
        }
        let files = writer.finish().await?;
        passes("written")?;
        commit_rows(&delta, table, files, vec![Transaction::new(SETTLEMENTS, since + 1)]).await
    }
}
