//! Notes, from the library to a model that reads their terms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::whole::{Place, TASK, chance, dies, task};
use crate::events::{EventKey, EventRef, EventsBuilder, HOUR, MEDS_DEATH, Op, Split, SubjectId, split_of};
use crate::features::tests::trigger;
use crate::features::{Due, FeatureSpec, Fold, words as words_of};
use crate::learn::{self, LearnError, Scored, Source, Subjects, TermsReport, TermsSettings};
use crate::models::{Bundle, Family, FitSpec, Folds, Matrix};

const SUBJECTS: i64 = 600;
const PARTITIONS: u32 = 3;
const FEATURES: &str = r#"
[[feature]]
demographics = ["hours_in_encounter"]
[[text]]
concept = "note"
windows = ["12h", "ever"]
terms = ["septic shock", "doing well", "patient", "and"]
"#;

/// What the notes of a subject are about: shock goes with death, being well with life.
fn is_about(subject: i64, what: i64) -> bool {
    let shares = if what == 2 { [0.1, 0.8] } else { [0.7, 0.1] };
    chance(subject, what) < shares[usize::from(dies(subject))]
}

/// Stays of 40 hours with a note at 2 and at 20 hours. Some notes are mended or withdrawn before the prediction at 24
/// hours, and one is written only when the outcome is known.
fn ward() -> RecordBatch {
    let mut builder = EventsBuilder::new();
    for subject in 0..SUBJECTS {
        let mut push = |hour: i64, known: i64, code: &str, text: Option<&str>, op: Op, key: u8| {
            let mut bytes = [key; 16];
            bytes[..8].copy_from_slice(&subject.to_le_bytes());
            let event = EventRef {
                subject: Some(SubjectId(subject)),
                time: Some(hour * HOUR),
                code,
                numeric_value: None,
                text_value: text,
                unit: None,
                concept: text.map(|_| "note"),
                implausible: false,
                recorded_at: known * HOUR,
                op,
                event_key: EventKey(bytes),
                encounter_id: Some("stay"),
                source: "import",
            };
            builder.push(&event).unwrap();
        };
        let shock = if is_about(subject, 2) { "Septic shock, on pressors." } else { "Stable overnight." };
        let well = if is_about(subject, 3) { "Doing well" } else { "No change" };
        let first = format!("Patient name{subject} seen and examined. {shock}");
        let second = format!("Patient name{subject} and family seen. {well}");
        push(0, 0, "ENCOUNTER//ICU//START", None, Op::Assert, 1);
        if subject % 5 == 0 {
            push(2, 2, "LOINC//11506-3", Some("Septic shock, doing well"), Op::Assert, 2);
        }
        push(2, 3, "LOINC//11506-3", Some(&first), Op::Assert, 2);
        if subject % 5 == 1 {
            push(4, 4, "LOINC//11506-3", Some("Septic shock, doing well"), Op::Assert, 3);
            push(4, 6, "LOINC//11506-3", Some("Septic shock, doing well"), Op::Retract, 3);
        }
        push(20, 21, "LOINC//18842-5", Some(&second), Op::Assert, 4);
        if dies(subject) {
            push(30, 30, MEDS_DEATH, None, Op::Assert, 5);
            push(5, 31, "LOINC//11506-3", Some("An autopsy was refused"), Op::Assert, 6);
        }
        push(40, 40, "ENCOUNTER//ICU//END", None, Op::Assert, 7);
        push(49, 49, "FOLLOW_UP", None, Op::Assert, 8);
    }
    builder.finish().unwrap()
}

struct Hospital(Place);

impl Hospital {
    fn new() -> Hospital {
        Hospital(Place::of(vec![ward()], PARTITIONS))
    }

    fn source(&self, features: Arc<FeatureSpec>) -> Source<'_> {
        Source { features, ..self.0.source() }
    }

    fn terms(&self, toml: &str, concept: &str, min_subjects: u16) -> TermsReport {
        let settings = TermsSettings { concept: concept.to_owned(), most: 50, min_subjects };
        let (task, spec) = (task(toml), spec(FEATURES));
        let mut progress = |_: &str| {};
        self.0.runtime.block_on(learn::terms(&self.source(spec), &task, &settings, &mut progress)).unwrap()
    }
}

fn spec(toml: &str) -> Arc<FeatureSpec> {
    let concepts = BTreeMap::from([("note".to_owned(), String::new())]);
    Arc::new(FeatureSpec::parse("features.toml", toml, &concepts).unwrap())
}

fn of_text() -> String {
    TASK.replace("\"logistic\"", "\"text\"")
}

#[test]
fn a_model_of_notes_tells_who_dies() {
    let place = Hospital::new();
    let task = task(&of_text());
    let train = |spec| {
        let mut progress = |_: &str| {};
        place.0.runtime.block_on(learn::train(&place.source(spec), &place.0.registry, &task, None, 7, &mut progress))
    };
    let report = train(spec(FEATURES)).unwrap();
    println!("AUROC {:?} on {} held-out rows", report.metrics.auroc, report.metrics.n);
    assert!(report.promoted && report.metrics.auroc.unwrap() > 0.8, "{}", report.reason);
    let model = place.0.registry.champion("death").unwrap().unwrap();
    let bundle = place.0.registry.load("death", &model).unwrap();
    assert_eq!((bundle.card.family, bundle.columns()), (Family::Text, 9));
    let without = spec("[[feature]]\ndemographics = [\"hours_in_encounter\"]");
    let error = train(without).unwrap_err();
    assert!(matches!(error, LearnError::Model(_)) && error.to_string().contains("add [[text]]"), "{error}");
}

#[test]
fn a_model_of_notes_is_cross_validated_alone_and_in_a_stack() {
    let place = Hospital::new();
    let mut task = task(&of_text());
    task.train.params.stack.members = vec![Family::Text, Family::Bayes];
    let families = [Family::Text, Family::Stack];
    let mut progress = |_: &str| {};
    let report = place.0.runtime.block_on(learn::crossval(
        &place.source(spec(FEATURES)),
        &task,
        &families,
        3,
        Subjects::Train,
        None,
        &mut progress,
    ));
    for family in report.unwrap().families {
        let auroc = family.judged.as_ref().and_then(|judged| judged.mean.auroc);
        assert!(auroc.is_some_and(|auroc| auroc > 0.85), "{family:?}");
    }
}

#[test]
fn the_terms_that_tell_most_are_those_that_the_labels_were_made_with() {
    let place = Hospital::new();
    let report = place.terms(&of_text(), "note", 20);
    let training = || (0..SUBJECTS).filter(|subject| split_of(SubjectId(*subject)) == Split::Train);
    let count = |with: &dyn Fn(i64) -> bool| training().filter(|subject| with(*subject)).count() as u64;
    assert_eq!((report.documents, report.subjects), (count(&|_| true), count(&|_| true)));
    assert_eq!(report.positives, count(&dies));
    let told: Vec<&str> = report.terms.iter().map(|one| one.term.as_str()).collect();
    for (term, what) in [("septic shock", 2), ("doing well", 3)] {
        let one = report.terms.iter().find(|one| one.term == term).unwrap();
        let with = count(&|subject| is_about(subject, what));
        let positives = count(&|subject| is_about(subject, what) && dies(subject));
        assert_eq!((one.documents, one.positives, one.subjects), (with, positives, with), "{term}");
    }
    let expected = ["septic", "shock", "septic shock", "overnight", "stable", "stable overnight", "doing", "well"];
    assert!(expected.iter().all(|term| told[..20].contains(term)), "{told:?}");
    // What all notes have tells nothing, what was known later was not known, and nobody's name stands in 20 charts.
    for absent in ["patient", "and", "seen and", "autopsy"] {
        assert!(!told.contains(&absent), "{absent}: {told:?}");
    }
    assert!(told.iter().all(|term| !term.contains("name")), "{told:?}");
    let loose = place.terms(&of_text(), "note", 1);
    assert!(loose.terms.iter().any(|one| one.term.contains("name")), "names are there to be found");
    let none = place.terms(&of_text(), "letter", 20);
    assert_eq!((none.documents, none.terms.len()), (0, 0));
}

#[test]
fn a_prediction_on_a_note_knows_that_note() {
    let place = Hospital::new();
    let on_notes = of_text().replace("{at = [\"24h\"], encounter = \"ICU\"}", "{on = [\"note\"], encounter = \"ICU\"}");
    let report = place.terms(&on_notes, "note", 20);
    let told = report.terms.iter().find(|one| one.term == "doing well").unwrap();
    let training = (0..SUBJECTS).filter(|subject| split_of(SubjectId(*subject)) == Split::Train);
    // On the last note, and on those that were mended or withdrawn later.
    let expected = training.map(|subject| u64::from(is_about(subject, 3)) + u64::from(subject % 5 < 2)).sum::<u64>();
    assert_eq!(told.documents, expected);
}

/// Sections of notes and the dialogues (MTS-Dialog, Ben Abacha et al. 2023) that they were written from; `None` without
/// the data.
fn dialogues() -> Option<Vec<(String, String)>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/multimodal/text/MTS-Dialog-TrainingSet.csv");
    let Ok(mut reader) = csv::Reader::from_path(path) else {
        println!("skipped: no {path}");
        return None;
    };
    let record = |record: csv::Result<csv::StringRecord>| record.map(|one| (one[1].to_owned(), one[3].to_owned()));
    Some(reader.records().map(record).collect::<Result<_, _>>().unwrap())
}

/// Words and pairs of words that stand in at least so many texts.
fn usual_terms(texts: &[(String, String)], least: usize) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, text) in texts {
        let mut words = Vec::new();
        words_of(text, &mut |word| words.push(word.to_owned()));
        let pairs: Vec<String> = words.windows(2).map(|pair| pair.join(" ")).collect();
        for term in words.into_iter().chain(pairs).collect::<BTreeSet<String>>() {
            *counts.entry(term).or_default() += 1;
        }
    }
    counts.into_iter().filter(|(_, count)| *count >= least).map(|(term, _)| term).collect()
}

/// How well a dialogue is told to belong to a section, against the strength of the penalty.
#[test]
#[ignore = "a measurement of minutes"]
fn sections_of_dialogues() {
    let Some(all) = dialogues() else { return };
    let terms = usual_terms(&all, 60);
    let quoted: Vec<String> = terms.iter().map(|term| format!("\"{term}\"")).collect();
    let spec = spec(&format!("[[text]]\nconcept = \"note\"\nwindows = [\"ever\"]\nterms = [{}]", quoted.join(",")));
    let mut fold = Fold::new(Arc::clone(&spec), vec![trigger("on = [\"note\"]")]);
    let mut due = Due::new();
    for (subject, (_, text)) in (0..).zip(&all) {
        let event = EventRef {
            subject: Some(SubjectId(subject)),
            time: Some(0),
            code: "LOINC//34109-9",
            numeric_value: None,
            text_value: Some(text),
            unit: None,
            concept: Some("note"),
            implausible: false,
            recorded_at: 0,
            op: Op::Assert,
            event_key: EventKey([1; 16]),
            encounter_id: None,
            source: "import",
        };
        fold.apply(&event, Some(&mut due));
    }
    let x = Matrix::from_values(spec.len(), due.values).unwrap();
    println!("{} dialogues, {} terms", x.rows(), spec.len());
    for section in ["GENHX", "ROS", "ASSESSMENT"] {
        let labels: Vec<bool> = all.iter().map(|(known, _)| known == section).collect();
        for alpha in [10.0, 30.0, 100.0, 300.0] {
            let folds = Folds::new(&labels, None, 5, 1);
            let mut scored = Vec::new();
            for held in 0..5 {
                let part = |rows: &[usize]| (x.pick(rows), rows.iter().map(|&row| labels[row]).collect::<Vec<bool>>());
                let ((train, y), (test, outcomes)) = (part(&folds.kept(held)), part(&folds.held(held)));
                let mut fit = FitSpec::new(Family::Text, "section", spec.names().to_vec(), spec.hash());
                fit.params.text.alpha = alpha;
                let inner = Folds::new(&y, None, 5, 1);
                let of = |rows: &[usize]| (train.pick(rows), rows.iter().map(|&row| y[row]).collect::<Vec<bool>>());
                let ((fitted, fitted_y), (tuning, tuning_y)) = (of(&inner.kept(0)), of(&inner.held(0)));
                let bundle = Bundle::fit(fit, &fitted, &fitted_y, &tuning, &tuning_y).unwrap();
                let mut risks = Vec::new();
                bundle.score(test.values(), &mut risks).unwrap();
                let rows = folds.held(held).into_iter().zip(risks).zip(outcomes);
                scored.extend(rows.map(|((row, risk), outcome)| Scored {
                    subject: SubjectId(row as i64),
                    risk,
                    outcome,
                }));
            }
            let auroc = learn::figures(&scored, 0.5, 1).auroc.unwrap();
            println!("{section}, alpha {alpha}: AUROC {auroc:.4}");
            assert!(auroc > 0.75);
        }
    }
}
