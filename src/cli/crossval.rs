//! `crossval`: how good each family would be on a task, by cross-validation over subjects.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::train::family;
use super::{CliError, SiteArgs, print, runtime, spinner, unread};
use crate::learn::{self, Crossval, FamilyReport, Figures, Judged, Subjects};
use crate::library::Library;
use crate::models::Family;

/// Arguments of `crossval`.
#[derive(Args, Debug)]
pub(super) struct CrossvalArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Task of the site
    #[arg(long)]
    task: String,
    /// Families of models [default: all]
    #[arg(long, value_parser = family, value_delimiter = ',', value_name = "A,B,...")]
    families: Vec<Family>,
    /// Folds by subject, 2 to 20
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=20))]
    folds: u8,
    /// Which subjects are dealt into folds
    #[arg(long, value_enum, default_value = "train")]
    split: SplitArg,
    /// Parquet file to write: each row's risks by models that did not see its subject
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// What is printed
    #[arg(long, value_enum, default_value = "json")]
    format: FormatArg,
}

#[derive(Copy, Clone, ValueEnum, Debug)]
enum SplitArg {
    /// Subjects for training and tuning; the held-out ones stay unseen
    Train,
    /// All subjects
    All,
}

#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
enum FormatArg {
    /// One line of JSON with every fold
    Json,
    /// Text for a person
    Table,
}

pub(super) fn run(args: CrossvalArgs) -> Result<(), CliError> {
    let site = args.site.load()?;
    let task = site.task(&args.task).map_err(|problem| CliError::Site(vec![problem]))?;
    let families = if args.families.is_empty() { Family::ALL.to_vec() } else { args.families };
    let subjects = match args.split {
        SplitArg::Train => Subjects::Train,
        SplitArg::All => Subjects::All,
    };
    let (runtime, bar) = (runtime()?, spinner("cross-validating"));
    let library = runtime.block_on(Library::open(&site.settings.library))?;
    let mut progress = |what: &str| bar.set_message(what.to_owned());
    let folds = usize::from(args.folds);
    let source = site.source(&library);
    let report = runtime.block_on(learn::crossval(
        &source,
        task,
        &families,
        folds,
        subjects,
        args.predictions.as_deref(),
        &mut progress,
    ))?;
    bar.finish_and_clear();
    match args.format {
        FormatArg::Json => print(&report),
        FormatArg::Table => write!(io::stdout().lock(), "{}", table(&report)).map_err(unread),
    }
}

const HEADER: [&str; 8] =
    ["family", "AUROC", "AUPRC", "min(Se,+P)", "Brier", "ECE", "fit seconds", "rows scored a second"];

/// The report as aligned columns; what refused stands below with its reason.
fn table(report: &Crossval) -> String {
    let Crossval { task, rows, positives, features, folds, families, .. } = report;
    let sampled = report.sampled.map_or(String::new(), |sampled| format!(" (a sample of {})", sampled.of));
    let mut text = format!(
        "{task}: {rows} rows{sampled}, {positives} positive, {features} features; mean ± standard deviation over \
         {folds} folds by subject\n\n"
    );
    let mut lines: Vec<Vec<String>> = vec![HEADER.map(str::to_owned).to_vec()];
    lines.extend(families.iter().filter_map(|report| Some(cells(report.family, report.judged.as_ref()?))));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    for line in &lines {
        let padded = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    for FamilyReport { family, refused, .. } in families {
        if let Some(reason) = refused {
            text.push_str(&format!("{family}: refused, {reason}\n"));
        }
    }
    text
}

fn cells(family: Family, judged: &Judged) -> Vec<String> {
    let figure = |get: fn(&Figures) -> Option<f64>| match (get(&judged.mean), get(&judged.spread)) {
        (Some(mean), Some(spread)) => format!("{mean:.4} ± {spread:.4}"),
        _ => "-".to_owned(),
    };
    vec![
        family.to_string(),
        figure(|f| f.auroc),
        figure(|f| f.auprc),
        figure(|f| f.min_se_ppv),
        figure(|f| f.brier),
        figure(|f| f.ece),
        format!("{:.2}", judged.fit_seconds),
        format!("{:.0}", judged.rows_per_second),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_a_refusal_is_told() {
        let figures = |x: f64| Figures {
            auroc: Some(x),
            auprc: Some(x / 2.0),
            min_se_ppv: None,
            brier: Some(0.1),
            ece: Some(0.02),
        };
        let judged = Judged {
            mean: figures(0.8654),
            spread: figures(0.0123),
            pooled: figures(0.86),
            auroc_ci: None,
            by_fold: vec![],
            fit_seconds: 1.256,
            score_seconds: 0.5,
            rows_per_second: 123_456.4,
        };
        let report = Crossval {
            task: "death".to_owned(),
            folds: 5,
            seed: 0,
            rows: 4_000,
            positives: 554,
            features: 114,
            left_out: learn::LeftOut::default(),
            sampled: None,
            families: vec![
                FamilyReport { family: Family::Boosting, refused: None, judged: Some(judged) },
                FamilyReport { family: Family::Mlp, refused: Some("it cannot".to_owned()), judged: None },
            ],
            seconds: 1.0,
        };
        let text = table(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("death: 4000 rows, 554 positive, 114 features;"), "{text}");
        assert_eq!(lines[2].find("AUROC").unwrap(), lines[3].find("0.8654").unwrap(), "{text}");
        assert_eq!(lines[3].split_whitespace().last(), Some("123456"));
        assert_eq!(lines[4], "mlp: refused, it cannot");
        let sampled = Some(learn::Sampled { rows: 4_000, of: 12_000 });
        let text = table(&Crossval { sampled, ..report });
        assert!(text.starts_with("death: 4000 rows (a sample of 12000), 554 positive"), "{text}");
    }
}
