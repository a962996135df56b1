//! `tabularize`: sparse matrices of what happened in windows before every row.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, SiteArgs, print, runtime, spinner};
use crate::learn::{Aggregate, Tabular, Window, tabularize_library, tabularize_meds};
use crate::library::Library;

/// Arguments of `tabularize`.
#[derive(Args, Debug)]
pub(super) struct TabularizeArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// A Parquet file of MEDS events, or a MEDS dataset's root [default: the case library]
    #[arg(long, value_name = "PATH")]
    meds: Option<PathBuf>,
    /// How far back a row looks: 'full', or a number and s, m, h, d or w
    #[arg(long, value_delimiter = ',', default_value = "1d,7d,full")]
    windows: Vec<Window>,
    /// What is told of a window; there is value/sum_sqd too
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "code/count,value/count,value/sum,value/min,value/max",
        value_name = "AGGREGATES"
    )]
    aggregates: Vec<Aggregate>,
    /// Dated events that a code needs, and values that its values need, to be told of
    #[arg(long, default_value_t = 10, value_name = "N")]
    min_count: u64,
    /// New folder for {split}/{shard}/{window}/{aggregate}.npz, the rows.parquet of every shard and codes.parquet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: TabularizeArgs) -> Result<(), CliError> {
    let (windows, aggregates) = (args.windows, args.aggregates);
    let twice = |i: usize| windows[..i].contains(&windows[i]);
    if (0..windows.len()).any(twice) || (0..aggregates.len()).any(|i| aggregates[..i].contains(&aggregates[i])) {
        return Err(CliError::Usage("a window or an aggregate is given twice; give each once".to_owned()));
    }
    let tabular = Tabular { windows, aggregates, min_count: args.min_count };
    let bar = spinner("tabularizing");
    let report = match args.meds {
        Some(path) => tabularize_meds(&path, &tabular, &args.out)?,
        None => {
            let site = args.site.load()?;
            let runtime = runtime()?;
            let library = runtime.block_on(Library::open(&site.settings.library))?;
            runtime.block_on(tabularize_library(&library, &tabular, &args.out))?
        }
    };
    bar.finish_and_clear();
    print(&report)
}
