//! `query`: SQL over the library.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use clap::{Args, ValueEnum};
use futures::StreamExt as _;

use super::features::tasks;
use super::{CliError, SiteArgs, runtime, spinner, unread};
use crate::learn;
use crate::library::{Library, LibraryError, Query};
use crate::roles::{Site, wall_now};

/// Name of the table of what every prediction was, or would have been, made of.
const FEATURES: &str = "features";

/// Arguments of `query`.
#[derive(Args, Debug)]
pub(super) struct QueryArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// How rows are printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// One SELECT over `events`, `predictions`, `alerts`, `labels`, and `features`, which is computed for the query: names
    /// of features go in double quotes
    sql: String,
}

#[derive(Copy, Clone, ValueEnum, Debug)]
enum Format {
    /// For people; all rows are held in memory
    Table,
    /// A JSON object a line
    Json,
    /// With a line of names
    Csv,
}

pub(super) fn run(args: QueryArgs) -> Result<(), CliError> {
    let site = args.site.load()?;
    let mut query = Query::parse(&args.sql).map_err(|error| CliError::Usage(error.to_string()))?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let library = Library::open(&site.settings.library).await?;
        // Lives until the last row is printed.
        let mut folder = None;
        if query.reads(FEATURES) {
            let made = Folder::new()?;
            let file = made.path.join("features.parquet");
            features(&site, &library, &file).await?;
            query = query.with_file(FEATURES, file);
            folder = Some(made);
        }
        let mut rows = query.run(&library).await?;
        let mut printer = Printer::new(args.format);
        while let Some(batch) = rows.next().await {
            printer.add(&batch.map_err(LibraryError::query)?)?;
        }
        printer.finish(&rows.schema())?;
        drop(folder);
        Ok(())
    })
}

async fn features(site: &Site, library: &Library, file: &Path) -> Result<(), CliError> {
    let bar = spinner("computing features");
    let mut progress = |what: &str| bar.set_message(what.to_owned());
    learn::features(library, &site.features, &tasks(site, None)?, file, &mut progress).await?;
    bar.finish_and_clear();
    Ok(())
}

/// A folder for one query, gone when it is dropped.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> Result<Folder, CliError> {
        // The time too: in a container every process may have the same number, and one that was killed left its folder.
        let name = format!("auscult-query-{}-{}", std::process::id(), wall_now());
        let path = std::env::temp_dir().join(name);
        // For this user only: it holds what is known of patients.
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|cause| CliError::File { path: path.display().to_string(), cause })?;
        Ok(Folder { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Whoever cleans the system's folder of temporary files takes what could not be removed.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Prints rows to stdout as they come.
struct Printer {
    format: Format,
    /// Rows of a table, which is laid out at the end.
    held: Vec<RecordBatch>,
    csv_names: bool,
}

impl Printer {
    fn new(format: Format) -> Self {
        Printer { format, held: Vec::new(), csv_names: true }
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), CliError> {
        let out = io::stdout().lock();
        match self.format {
            Format::Table => self.held.push(batch.clone()),
            Format::Json => {
                let mut writer = arrow::json::LineDelimitedWriter::new(out);
                writer.write(batch).and_then(|()| writer.finish()).map_err(printed)?;
            }
            Format::Csv => {
                let names = std::mem::take(&mut self.csv_names);
                let mut writer = arrow::csv::WriterBuilder::new().with_header(names).build(out);
                writer.write(batch).map_err(printed)?;
            }
        }
        Ok(())
    }

    fn finish(mut self, schema: &arrow::datatypes::SchemaRef) -> Result<(), CliError> {
        match self.format {
            Format::Table => {
                if self.held.is_empty() {
                    self.held.push(RecordBatch::new_empty(schema.clone()));
                }
                let table = pretty_format_batches(&self.held).map_err(printed)?;
                writeln!(io::stdout().lock(), "{table}").map_err(unread)?;
            }
            Format::Csv if self.csv_names => self.add(&RecordBatch::new_empty(schema.clone()))?,
            Format::Csv | Format::Json => {}
        }
        Ok(())
    }
}

fn printed(error: arrow::error::ArrowError) -> CliError {
    if let arrow::error::ArrowError::IoError(_, error) = error {
        return unread(error);
    }
    CliError::Failed(format!("the rows cannot be printed: {error}"))
}
