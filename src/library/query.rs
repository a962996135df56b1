//! SQL over the library: whoever asks reads, and never changes.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};

use super::{Library, LibraryError, Table};

/// Memory of one query; what needs more spills to disk where DataFusion can.
const QUERY_BYTES: usize = 1 << 30;

/// SQL to be run over the tables of a library, and files beside them.
#[derive(Debug)]
pub struct Query {
    sql: String,
    /// Names of the tables that it reads.
    tables: Vec<String>,
    files: Vec<(String, PathBuf)>,
}

impl Query {
    /// Reads one SQL statement.
    ///
    /// # Errors
    /// If it is no SQL.
    pub fn parse(sql: &str) -> Result<Query, LibraryError> {
        let context = SessionContext::new();
        let state = context.state();
        let dialect = state.config().options().sql_parser.dialect;
        let statement = state.sql_to_statement(sql, &dialect).map_err(LibraryError::query)?;
        let tables = state.resolve_table_references(&statement).map_err(LibraryError::query)?;
        let tables = tables.iter().map(|table| table.table().to_owned()).collect();
        Ok(Query { sql: sql.to_owned(), tables, files: Vec::new() })
    }

    /// Whether it reads a table of this name.
    pub fn reads(&self, table: &str) -> bool {
        self.tables.iter().any(|known| known == table)
    }

    /// Lets a Parquet file be a table of the query.
    pub fn with_file(mut self, table: &str, path: PathBuf) -> Query {
        self.files.push((table.to_owned(), path));
        self
    }

    /// Runs it over the library as it is now. A table that nothing was written to yet is empty.
    ///
    /// # Errors
    /// If it reads a table that is not there, would change something, or cannot be planned or run.
    pub async fn run(&self, library: &Library) -> Result<SendableRecordBatchStream, LibraryError> {
        let config = SessionConfig::new()
            .with_information_schema(true)
            .set_bool("datafusion.execution.parquet.schema_force_view_types", false);
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(QUERY_BYTES, 1.0).build_arc()?;
        let context = SessionContext::new_with_config_rt(config, runtime);
        for table in Table::ALL.into_iter().filter(|table| self.reads(table.name())) {
            match library.open_table(table).await? {
                Some(delta) => {
                    let provider = delta.table_provider().with_session(Arc::new(context.state())).await?;
                    context.register_table(table.name(), provider)?;
                }
                None => {
                    let nothing = arrow::array::RecordBatch::new_empty(table.schema());
                    context.register_batch(table.name(), nothing)?;
                }
            }
        }
        for (table, path) in &self.files {
            let path = path.to_string_lossy();
            context.register_parquet(table.as_str(), &*path, ParquetReadOptions::default()).await?;
        }
        let only_reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let rows = context.sql_with_options(&self.sql, only_reads).await.map_err(LibraryError::query)?;
        rows.execute_stream().await.map_err(LibraryError::query)
    }
}
