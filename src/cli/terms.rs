//! `terms`: which words of texts tell most about a task's label.

use clap::Args;

use super::{CliError, SiteArgs, print, runtime, spinner};
use crate::learn::{self, TermsReport, TermsSettings};
use crate::library::Library;

/// Arguments of `terms`.
#[derive(Args, Debug)]
pub(super) struct TermsArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Task of the site
    #[arg(long)]
    task: String,
    /// Concept of the texts
    #[arg(long, default_value = "note")]
    concept: String,
    /// How many terms, 1 to 5000
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=5_000))]
    most: u16,
    /// Fewest subjects in whose texts a term must stand, 5 to 10000: what fewer have may name somebody
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(5..=10_000))]
    min_subjects: u16,
}

pub(super) fn run(args: TermsArgs) -> Result<(), CliError> {
    let site = args.site.load()?;
    let task = site.task(&args.task).map_err(|problem| CliError::Site(vec![problem]))?;
    if !site.concepts.units().contains_key(&args.concept) {
        let what = format!("--concept: '{}' is no concept of concepts.csv; map the codes of texts to it", args.concept);
        return Err(CliError::Usage(what));
    }
    let settings =
        TermsSettings { concept: args.concept, most: usize::from(args.most), min_subjects: args.min_subjects };
    let (runtime, bar) = (runtime()?, spinner("finding terms"));
    let library = runtime.block_on(Library::open(&site.settings.library))?;
    let mut progress = |what: &str| bar.set_message(what.to_owned());
    let report = runtime.block_on(learn::terms(&site.source(&library), task, &settings, &mut progress))?;
    bar.finish_and_clear();
    eprintln!("{}", hint(&report, &settings));
    print(&report)
}

/// What to do with the terms, or why there are none.
fn hint(report: &TermsReport, settings: &TermsSettings) -> String {
    let TermsReport { concept, documents, .. } = report;
    if *documents == 0 {
        return format!(
            "auscult: no training subject has a text of '{concept}' at a labelled prediction; look with auscult query \
             whether there are events of that concept with a text_value (a code mapped since has it from the next import on)"
        );
    }
    if report.terms.is_empty() {
        let least = settings.min_subjects;
        return format!(
            "auscult: no term that stands in texts of {least} subjects tells anything; lower --min-subjects"
        );
    }
    let terms: Vec<String> = report.terms.iter().map(|one| format!("    \"{}\",\n", one.term)).collect();
    format!(
        "to let models see them, add this to features.toml (windows as you need them), and train again:\n\n\
         [[text]]\nconcept = \"{concept}\"\nwindows = [\"ever\"]\nterms = [\n{}]\n",
        terms.concat()
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::features::FeatureSpec;
    use crate::learn::Telling;

    fn report(documents: u64, terms: &[&str]) -> TermsReport {
        let telling =
            |term: &&str| Telling { term: (*term).to_owned(), documents, positives: 1, subjects: 9, chi_square: 2.0 };
        TermsReport {
            task: "death".to_owned(),
            concept: "note".to_owned(),
            documents,
            positives: 3,
            subjects: 10,
            terms: terms.iter().map(telling).collect(),
            seconds: 0.1,
        }
    }

    #[test]
    fn the_hint_is_what_features_toml_takes() {
        let settings = TermsSettings { concept: "note".to_owned(), most: 9, min_subjects: 20 };
        let text = hint(&report(9, &["chest pain", "fever"]), &settings);
        let (_, toml) = text.split_once("\n\n").unwrap();
        let concepts = BTreeMap::from([("note".to_owned(), String::new())]);
        let spec = FeatureSpec::parse("features.toml", toml, &concepts).unwrap();
        assert_eq!(spec.names(), ["note:chest pain.count.ever", "note:fever.count.ever"]);
        assert!(hint(&report(0, &[]), &settings).contains("no training subject has a text of 'note'"));
        assert!(hint(&report(9, &[]), &settings).contains("20 subjects"));
    }
}
