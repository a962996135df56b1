//! `crossval`: how good each family would be on a task, by cross-validation over subjects.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::train::family;
use super::{CliError, SiteArgs, print, runtime, spinner, unread};
use crate::learn::{self, Crossval, FamilyReport, Figures, Judged, PanelFigures, Subjects};
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
    /// Parquet file to write: each row's risks, and what is told beside them, by models that did not see its subject
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

/// In a fold's few rows the smaller of two shares lies below either by chance; so of all rows, each alerted on by the
/// threshold of the model that did not see its subject, there is one too.
const HEADER: [&str; 9] =
    ["family", "AUROC", "AUPRC", "min(Se,+P)", "of all rows", "Brier", "ECE", "fit seconds", "rows scored a second"];

/// The report as aligned columns: the figures of what the task watches, then those of the whole answer, where the label
/// is more than yes or no; what refused stands below with its reason.
fn table(report: &Crossval) -> String {
    let Crossval { task, rows, positives, features, folds, families, .. } = report;
    let sampled = report.sampled.map_or(String::new(), |sampled| format!(" (a sample of {})", sampled.of));
    let mut text = format!(
        "{task}: {rows} rows{sampled}, {positives} positive, {features} features; mean ± standard deviation over \
         {folds} folds by subject\n\n"
    );
    let judged = || families.iter().filter_map(|report| Some((report.family, report.judged.as_ref()?)));
    let mut lines: Vec<Vec<String>> = vec![HEADER.map(str::to_owned).to_vec()];
    lines.extend(judged().map(|(family, judged)| cells(family, judged)));
    if judged().any(|(_, judged)| judged.features_kept.is_some()) {
        lines[0].push("features kept".to_owned());
        let kept = |judged: &Judged| judged.features_kept.map_or("-".to_owned(), |kept| format!("{kept:.1}"));
        lines[1..].iter_mut().zip(judged()).for_each(|(line, (_, judged))| line.push(kept(judged)));
    }
    align(&lines, &mut text);
    let mut lines: Vec<Vec<String>> = Vec::new();
    for (family, figures) in judged().filter_map(|(family, judged)| Some((family, whole(judged.panel.as_ref()?)))) {
        if lines.is_empty() {
            let names = figures.iter().map(|(name, _)| (*name).to_owned());
            lines.push(std::iter::once("family".to_owned()).chain(names).collect());
            text.push_str("\nthe whole answer, over all rows, each by the model that did not see its subject\n\n");
        }
        let cell = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.4}"));
        let cells = figures.iter().map(|(_, figure)| cell(*figure));
        lines.push(std::iter::once(family.to_string()).chain(cells).collect());
    }
    align(&lines, &mut text);
    for FamilyReport { family, refused, .. } in families {
        if let Some(reason) = refused {
            text.push_str(&format!("{family}: refused, {reason}\n"));
        }
    }
    text
}

/// Writes lines, of as many cells each, so that columns stand below each other.
fn align(lines: &[Vec<String>], text: &mut String) {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for line in lines {
        let padded = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
}

/// What tells most of a whole answer, by name.
fn whole(panel: &PanelFigures) -> Vec<(&'static str, Option<f64>)> {
    match panel {
        PanelFigures::Class(figures) => vec![
            ("macro AUROC", figures.macro_auroc),
            ("log loss", figures.log_loss),
            ("Brier", figures.brier),
            ("accuracy", figures.accuracy),
            ("balanced accuracy", figures.balanced_accuracy),
            ("kappa", figures.kappa),
        ],
        PanelFigures::Amount(figures) => vec![
            ("MAE", figures.errors.mae),
            ("MAE of the mean", figures.baseline.mae),
            ("RMSE", figures.errors.rmse),
            ("R2", figures.errors.r2),
            ("Spearman", figures.errors.spearman),
            ("within p10 to p90", figures.central.map(|central| central.coverage)),
        ],
        PanelFigures::Time(figures) => vec![
            ("Harrell's C", figures.harrell),
            ("Uno's C", figures.uno),
            ("integrated Brier", figures.integrated_brier),
        ],
    }
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
        judged.pooled.min_se_ppv.map_or("-".to_owned(), |figure| format!("{figure:.4}")),
        figure(|f| f.brier),
        figure(|f| f.ece),
        format!("{:.2}", judged.fit_seconds),
        format!("{:.0}", judged.rows_per_second),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(features_kept: Option<f64>, panel: Option<PanelFigures>) -> Judged {
        Judged {
            mean: Figures::default(),
            spread: Figures::default(),
            pooled: Figures::default(),
            auroc_ci: None,
            panel,
            features_kept,
            by_fold: vec![],
            fit_seconds: 1.256,
            score_seconds: 0.5,
            rows_per_second: 123_456.4,
        }
    }

    fn report(families: Vec<FamilyReport>) -> Crossval {
        Crossval {
            task: "death".to_owned(),
            folds: 5,
            seed: 0,
            rows: 4_000,
            positives: 554,
            features: 114,
            left_out: learn::LeftOut::default(),
            sampled: None,
            families,
            seconds: 1.0,
        }
    }

    #[test]
    fn columns_are_aligned_and_a_refusal_is_told() {
        let figures = |x: f64| Figures {
            auroc: Some(x),
            auprc: Some(x / 2.0),
            min_se_ppv: None,
            brier: Some(0.1),
            ece: Some(0.02),
        };
        let pooled = Figures { min_se_ppv: Some(0.5152), ..figures(0.8601) };
        let judged = Judged { mean: figures(0.8654), spread: figures(0.0123), pooled, ..judged(None, None) };
        let report = report(vec![
            FamilyReport { family: Family::Boosting, refused: None, judged: Some(judged) },
            FamilyReport { family: Family::Mlp, refused: Some("it cannot".to_owned()), judged: None },
        ]);
        let text = table(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("death: 4000 rows, 554 positive, 114 features;"), "{text}");
        assert_eq!(lines[2].find("AUROC").unwrap(), lines[3].find("0.8654").unwrap(), "{text}");
        let before = |line: &str, at: &str| line[..line.find(at).unwrap()].chars().count();
        assert_eq!(before(lines[2], "of all rows"), before(lines[3], "0.5152"), "{text}");
        assert_eq!(lines[3].split_whitespace().last(), Some("123456"));
        assert_eq!(lines[4], "mlp: refused, it cannot");
        let sampled = Some(learn::Sampled { rows: 4_000, of: 12_000 });
        let text = table(&Crossval { sampled, ..report });
        assert!(text.starts_with("death: 4000 rows (a sample of 12000), 554 positive"), "{text}");
        assert!(!text.contains("features kept") && !text.contains("whole answer"), "{text}");
    }

    #[test]
    fn what_a_panel_tells_and_what_was_selected_have_columns_of_their_own() {
        let figures = learn::SurvivalFigures { harrell: Some(0.71), uno: Some(0.7), ..Default::default() };
        let of = |family, judged| FamilyReport { family, refused: None, judged: Some(judged) };
        let families = vec![
            of(Family::Logistic, judged(Some(17.4), Some(PanelFigures::Time(figures)))),
            of(Family::Text, judged(None, None)),
        ];
        let text = table(&report(families));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2].find("features kept").unwrap(), lines[3].find("17.4").unwrap(), "{text}");
        assert_eq!(lines[2].find("features kept").unwrap(), lines[4].rfind('-').unwrap(), "{text}");
        assert!(lines[6].starts_with("the whole answer") && lines[8].ends_with("integrated Brier"), "{text}");
        assert_eq!(lines[9].split_whitespace().collect::<Vec<_>>(), ["logistic", "0.7100", "0.7000", "-"]);
        assert_eq!(lines.len(), 10);
    }
}
