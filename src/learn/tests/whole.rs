use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

use crate::events::{DAY, EventKey, EventRef, EventsBuilder, HOUR, MEDS_DEATH, Micros, Op, Split, SubjectId, split_of};
use crate::features::FeatureSpec;
use crate::learn::{
    self, AcesConfig, Aggregate, EvaluateOptions, LearnError, Part, Registry, Source, Spill, Subjects, Task,
    TrainReport,
};
use crate::library::{Library, export_meds};
use crate::models::Family;
use crate::settings::TextFile;

const PARTITIONS: u32 = 3;
pub(super) const SUBJECTS: i64 = 600;

pub(super) const TASK: &str = r#"
name = "death"
horizon = "24h"
trigger = {at = ["24h"], encounter = "ICU"}
label.aces = "death.yaml"
train = {family = "logistic", min_subjects = 50, min_positives = 10}
gate = {min_auroc = 0.8}
"#;

const ACES: &str = r#"
predicates:
  death: {code: MEDS_DEATH}
  prediction: {code: AUSCULT//PREDICTION}
trigger: prediction
windows:
  input: {start: NULL, end: trigger, start_inclusive: true, end_inclusive: true, index_timestamp: end}
  target: {start: trigger, end: start + 24h, start_inclusive: false, end_inclusive: true, label: death}
"#;

const FEATURES: &str = r#"
[[feature]]
concepts = ["heart_rate"]
windows = ["24h"]
aggregates = ["last", "mean", "count"]
"#;

pub(super) fn task(toml: &str) -> Task {
    let file = TextFile { name: "tasks/death.toml".to_owned(), text: toml.to_owned() };
    Task::parse(&file, &[TextFile { name: "tasks/death.yaml".to_owned(), text: ACES.to_owned() }]).unwrap().remove(0)
}

fn spec() -> Arc<FeatureSpec> {
    let concepts = BTreeMap::from([("heart_rate".to_owned(), "/min".to_owned())]);
    Arc::new(FeatureSpec::parse("features.toml", FEATURES, &concepts).unwrap())
}

/// A number in 0 to 1 that depends on nothing else.
pub(super) fn chance(subject: i64, what: i64) -> f64 {
    let mixed = ((subject * 1_000 + what) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Whether the subject of the synthetic ward dies.
pub(super) fn dies(subject: i64) -> bool {
    chance(subject, 1) > 0.3 + 0.9 * chance(subject, 0)
}

/// Stays of 24 hours of heart rates, the faster the likelier to die at 30 hours; who lives
/// goes home at 40.
fn ward(subjects: impl Iterator<Item = i64>) -> Vec<RecordBatch> {
    let mut builder = EventsBuilder::new();
    for subject in subjects {
        let start = subject % 50 * DAY;
        let mut fact = 0_u8;
        let mut push =
            |time: Micros, code: &str, concept: Option<&str>, value: Option<f32>, op: Op, key: Option<u8>| {
                let mut bytes = [0; 16];
                bytes[..8].copy_from_slice(&subject.to_le_bytes());
                bytes[8] = key.unwrap_or(fact);
                fact += 1;
                let event = EventRef {
                    subject: Some(SubjectId(subject)),
                    time: Some(start + time),
                    code,
                    numeric_value: value,
                    text_value: None,
                    unit: None,
                    concept,
                    implausible: false,
                    recorded_at: start + time,
                    op,
                    event_key: EventKey(bytes),
                    encounter_id: Some("stay"),
                    source: "import",
                };
                builder.push(&event).unwrap();
            };
        push(0, "ENCOUNTER//ICU//START", None, None, Op::Assert, None);
        for hour in 0..24 {
            let rate = 120.0 - 50.0 * chance(subject, 0) + 10.0 * chance(subject, 100 + hour);
            push(hour * HOUR, "LOINC//8867-4", Some("heart_rate"), Some(rate as f32), Op::Assert, None);
        }
        if dies(subject) {
            push(30 * HOUR, MEDS_DEATH, None, None, Op::Assert, Some(200));
            // Entered in error, and corrected the next day: this subject lives.
            if subject % 100 == 0 {
                push(31 * HOUR, MEDS_DEATH, None, None, Op::Retract, Some(200));
            }
        }
        push(40 * HOUR, "ENCOUNTER//ICU//END", None, None, Op::Assert, None);
        // The label's window has closed by then.
        push(49 * HOUR, "FOLLOW_UP", None, None, Op::Assert, None);
    }
    vec![builder.finish().unwrap()]
}

pub(super) const CHAMPION: EvaluateOptions<'_> =
    EvaluateOptions { version: None, against: None, part: Part::HeldOut, predictions: None, plots: None };

pub(super) struct Place {
    pub(super) folder: tempfile::TempDir,
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) library: Library,
    pub(super) registry: Registry,
    pub(super) spill: Spill,
}

impl Place {
    pub(super) fn new(subjects: impl Iterator<Item = i64>) -> Self {
        Place::of(ward(subjects), PARTITIONS)
    }

    /// A place whose library holds these events.
    pub(super) fn of(events: Vec<RecordBatch>, partitions: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let url = |name: &str| Url::from_directory_path(folder.path().join(name)).unwrap();
        let library = runtime.block_on(Library::open(&url("library"))).unwrap();
        runtime.block_on(library.append_history(events, partitions)).unwrap();
        let registry = Registry::open(&url("registry")).unwrap();
        let spill = Spill { bytes: 1 << 30, folder: folder.path().join("spill") };
        std::fs::create_dir(&spill.folder).unwrap();
        Place { folder, runtime, library, registry, spill }
    }

    pub(super) fn source(&self) -> Source<'_> {
        Source { library: &self.library, features: spec(), spill: self.spill.clone() }
    }

    pub(super) fn train(&self, toml: &str) -> Result<TrainReport, LearnError> {
        let task = task(toml);
        let mut said = 0;
        let mut progress = |_: &str| said += 1;
        let source = self.source();
        let trained = learn::train(&source, &self.registry, &task, None, 7, &mut progress);
        let trained = self.runtime.block_on(trained);
        assert!(said > 0 || trained.is_err());
        trained
    }
}

#[test]
fn a_library_becomes_a_champion_that_is_judged_on_subjects_it_never_saw() {
    let place = Place::new(0..SUBJECTS);
    let report = place.train(TASK).unwrap();
    assert!(report.promoted, "{}", report.reason);
    let held_out = (0..SUBJECTS).filter(|i| split_of(SubjectId(*i)) == Split::HeldOut);
    assert_eq!(report.metrics.n, held_out.clone().count());
    assert_eq!(report.metrics.positives, held_out.filter(|i| dies(*i) && i % 100 != 0).count());
    assert_eq!((report.baseline.kind, report.baseline.metrics.auroc), ("prevalence", Some(0.5)));
    assert_eq!(report.left_out, learn::LeftOut::default());
    let written = serde_json::to_value(&report).unwrap();
    assert_eq!(written["model"], json!({"name": "death", "version": 1}));
    for key in ["task", "promoted", "reason", "metrics", "baseline", "seconds"] {
        assert!(written.get(key).is_some(), "{key}");
    }

    // The same rows through the registered bundle give the same figures.
    let task = task(TASK);
    let file = place.folder.path().join("predictions.parquet");
    let evaluate = |part, predictions| {
        let options = EvaluateOptions { part, predictions, ..CHAMPION };
        place.runtime.block_on(learn::evaluate(&place.source(), &place.registry, &task, options))
    };
    let evaluation = evaluate(Part::HeldOut, Some(file.as_path())).unwrap();
    assert_eq!(evaluation.metrics, report.metrics);
    let written = serde_json::to_value(&evaluation).unwrap();
    for key in ["n", "positives", "auroc", "auprc", "brier", "ece", "min_se_ppv", "threshold", "ci"] {
        assert!(written.get(key).is_some(), "{key}");
    }
    assert_eq!(evaluate(Part::All, None).unwrap().metrics.n as i64, SUBJECTS);

    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
    let batch = reader.build().unwrap().next().unwrap().unwrap();
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    let expected =
        ["subject_id", "prediction_time", "boolean_value", "predicted_boolean_value", "predicted_boolean_probability"];
    assert_eq!(names, expected);
    assert_eq!(batch.num_rows(), report.metrics.n);
    for i in 0..batch.num_rows() {
        let subject = batch.column(0).as_primitive::<Int64Type>().value(i);
        let time = batch.column(1).as_primitive::<TimestampMicrosecondType>().value(i);
        assert_eq!(time, subject % 50 * DAY + 24 * HOUR);
        assert_eq!(batch.column(2).as_boolean().value(i), dies(subject) && subject % 100 != 0);
        let risk = batch.column(4).as_primitive::<Float64Type>().value(i);
        assert_eq!(batch.column(3).as_boolean().value(i), risk >= report.metrics.threshold);
    }
}

#[test]
fn a_model_abstains_and_aims_as_its_task_says() {
    let place = Place::new(0..SUBJECTS);
    let plain = place.train(TASK).unwrap();
    assert_eq!((&plain.abstention, &plain.threshold_note), (&None, &None));
    let toml = format!("{TASK}abstain = {{error_rate = 0.2}}\nalert = {{aim = {{sensitivity = 1.0}}}}\n");
    let report = place.train(&toml).unwrap();
    // Calibrated on the same rows, the risks are the same; the threshold is another.
    assert_eq!(report.metrics.auroc, plain.metrics.auroc);
    assert!(report.metrics.threshold < plain.metrics.threshold);
    let abstention = report.abstention.unwrap();
    assert_eq!(abstention.positives.n, report.metrics.positives);
    assert_eq!(abstention.positives.n + abstention.negatives.n, report.metrics.n);
    // Some 60 held-out rows, of which a third dies.
    for outcome in [&abstention.positives, &abstention.negatives] {
        assert!(outcome.coverage.unwrap() > 0.5, "{abstention:?}");
    }
    let evaluation = place
        .runtime
        .block_on(learn::evaluate(
            &place.source(),
            &place.registry,
            &task(&toml),
            EvaluateOptions { version: Some(2), ..CHAMPION },
        ))
        .unwrap();
    assert_eq!(evaluation.abstention, Some(abstention));
    let rare = format!("{TASK}alert = {{aim = {{alerts_per_patient_day = 0.0001}}}}\n");
    assert!(place.train(&rare).unwrap().threshold_note.unwrap().contains("alerts per patient-day"));
}

#[test]
fn two_models_are_compared_and_plotted() {
    let place = Place::new(0..SUBJECTS);
    place.train(TASK).unwrap();
    place.train(&TASK.replace("\"logistic\"", "\"forest\"")).unwrap();
    let (task, plots) = (task(TASK), place.folder.path().join("plots/here"));
    let evaluate =
        |options| place.runtime.block_on(learn::evaluate(&place.source(), &place.registry, &task, options)).unwrap();
    let options = EvaluateOptions { version: Some(1), against: Some(2), plots: Some(&plots), ..CHAMPION };
    let (one, two) = (evaluate(options), evaluate(EvaluateOptions { version: Some(2), ..CHAMPION }));
    let against = one.against.as_ref().unwrap();
    let difference = one.metrics.auroc.unwrap() - two.metrics.auroc.unwrap();
    assert!((against.comparison.auroc.difference.unwrap() - difference).abs() < 1e-12);
    assert!((against.comparison.delong.unwrap().difference - difference).abs() < 1e-12);
    assert_eq!((against.model.version, against.comparison.delong.unwrap().independent_rows), (2, true));
    assert_eq!(two.against, None);

    // Deaths are at 30 hours, predictions at 24.
    let lead = one.details.lead_time.as_ref().unwrap();
    assert_eq!((lead.events, lead.undated_rows), (one.metrics.positives, 0));
    assert_eq!(Some(lead.sensitivity), one.metrics.sensitivity);
    assert_eq!(lead.hours.unwrap().p50, 6.0);
    assert_eq!(one.details.utility_2019_missing, Some("the predictions are not hourly"));
    assert_eq!(one.subgroups, []);
    assert_eq!(one.subgroups_missing.len(), 4);

    let mut names: Vec<_> =
        std::fs::read_dir(&plots).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected = [
        "decision_curve.svg",
        "importance.json",
        "importance.svg",
        "pr.svg",
        "reliability.svg",
        "report.json",
        "roc.svg",
    ];
    assert_eq!(names, expected);
}

#[test]
fn only_what_passes_the_gate_takes_over() {
    let place = Place::new(0..SUBJECTS);
    assert!(place.train(TASK).unwrap().promoted);
    let again = place.train(TASK).unwrap();
    assert_eq!((again.promoted, again.model.version, again.baseline.kind), (true, 2, "champion"));
    assert_eq!((again.baseline.version, again.baseline.metrics.auroc), (Some(1), again.metrics.auroc));
    let strict = place.train(&TASK.replace("min_auroc = 0.8", "min_auroc = 0.9999")).unwrap();
    assert_eq!((strict.promoted, strict.model.version), (false, 3));
    assert_eq!(place.registry.champion("death").unwrap().unwrap().version, 2);
    assert_eq!(place.registry.list().unwrap().len(), 3);
}

/// What an older version of the program left behind must not be in the way of a new model.
#[test]
fn a_champion_of_another_format_is_succeeded() {
    let place = Place::new(0..SUBJECTS);
    place.train(TASK).unwrap();
    let folder = place.folder.path().join("registry/death");
    let edit = |path: &Path, from: &str, to: &str| {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{path:?}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    let manifest = folder.join("models/1/manifest.json");
    let hash =
        || Sha256::digest(std::fs::read(&manifest).unwrap()).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let before = hash();
    edit(&manifest, "\"format\": 2", "\"format\": 1");
    for entry in std::fs::read_dir(folder.join("ledger")).unwrap() {
        edit(&entry.unwrap().path(), &before, &hash());
    }
    let champion = place.registry.champion("death").unwrap().unwrap();
    let error = place.registry.load("death", &champion).unwrap_err().to_string();
    assert!(error.contains("the bundle has format 1, this version reads 2"), "{error}");
    let report = place.train(TASK).unwrap();
    assert_eq!((report.promoted, report.model.version, report.baseline.kind), (true, 2, "prevalence"));
    assert_eq!(place.registry.champion("death").unwrap().unwrap().version, 2);
}

#[test]
fn a_search_is_reported_and_registered_beside_the_model() {
    let place = Place::new(0..SUBJECTS);
    let report = place.train(&TASK.replace("min_positives = 10", "min_positives = 10, search = {trials = 4}")).unwrap();
    let search = report.search.unwrap();
    assert_eq!((search.trials.len(), search.folds), (4, 3));
    assert!(search.best.auroc >= search.trials[0].auroc);
    let model = place.registry.champion("death").unwrap().unwrap();
    let card = place.registry.load("death", &model).unwrap().card;
    assert_eq!(search.best.params["logistic"]["alpha"], card.params.logistic.alpha);
    let history = place.registry.history("death").unwrap();
    assert_eq!(history[0].metrics["search"], serde_json::to_value(&search).unwrap());
    assert_eq!(history[1].metrics.get("search"), None, "the trials stand once in the ledger");
    assert_eq!(place.registry.list().unwrap()[0].metrics.get("search"), None);
    assert!(place.train(TASK).unwrap().search.is_none());
}

#[test]
fn a_selection_is_reported_and_used_by_search_and_folds_too() {
    let place = Place::new(0..SUBJECTS);
    let with = |more: &str| TASK.replace("min_positives = 10", &format!("min_positives = 10, {more}"));
    assert_eq!(place.train(TASK).unwrap().features_kept, None);
    let report = place.train(&with("select = {most = 1}, search = {trials = 2}")).unwrap();
    assert_eq!((report.features_kept, report.search.unwrap().trials.len()), (Some(1), 2));
    let model = place.registry.version("death", report.model.version).unwrap();
    let card = place.registry.load("death", &model).unwrap().card;
    let kept = card.selected.unwrap().kept().to_vec();
    assert_eq!((kept.len(), card.features.len(), card.usual.len(), card.found["features_kept"]), (1, 3, 3, 1.0));
    assert!(report.metrics.auroc.unwrap() > 0.78, "the last heart rate, or their mean, is what tells");

    // Who is left out of all rows cannot be learned from, in a fold as in a training.
    let rare = with("select = {rare = 100000}");
    assert!(place.train(&rare).unwrap_err().to_string().contains("lower train.select.rare"));
    let mut progress = |_: &str| {};
    let crossval = |toml: &str, progress: &mut dyn FnMut(&str)| {
        let (task, families) = (task(toml), [Family::Logistic, Family::Boosting]);
        let source = place.source();
        let run = learn::crossval(&source, &task, &families, 2, Subjects::Train, None, progress);
        place.runtime.block_on(run).unwrap().families
    };
    let refused = |of: &learn::FamilyReport| of.refused.as_ref().is_some_and(|why| why.contains("train.select.rare"));
    assert!(crossval(&rare, &mut progress).iter().all(refused));
    let judged = crossval(&with("select = {most = 1}"), &mut progress);
    assert!(judged.iter().all(|of| of.judged.as_ref().unwrap().mean.auroc.unwrap() > 0.7), "{judged:?}");
    assert!(judged.iter().all(|of| of.judged.as_ref().unwrap().features_kept == Some(1.0)), "{judged:?}");
}

#[test]
fn a_cross_fitted_model_keeps_no_subject_of_training_and_tuning_back() {
    let place = Place::new(0..SUBJECTS);
    let card = |more: &str| {
        let report = place.train(&TASK.replace("min_positives = 10", &format!("min_positives = 10{more}"))).unwrap();
        let model = place.registry.version("death", report.model.version).unwrap();
        (place.registry.load("death", &model).unwrap().card, report.metrics)
    };
    let ((apart, _), (both, metrics)) = (card(""), card(", crossfit = 4"));
    let all = apart.trained_on.rows + apart.tuned_on.rows;
    assert_eq!((both.trained_on.rows, both.tuned_on.rows, both.found["crossfit_folds"]), (all, all, 4.0));
    assert!(metrics.auroc.unwrap() > 0.78 && metrics.brier.unwrap() < 0.13, "{metrics:?}");
}

#[test]
fn families_are_cross_validated_without_the_held_out_subjects() {
    let place = Place::new(0..SUBJECTS);
    let mut task = task(TASK);
    task.train.params.forest.trees = 0;
    let file = place.folder.path().join("risks.parquet");
    let run = |families: &[Family], folds, subjects| {
        let (mut progress, source, file) = (|_: &str| {}, place.source(), Some(file.as_path()));
        place.runtime.block_on(learn::crossval(&source, &task, families, folds, subjects, file, &mut progress))
    };
    let report = run(&[Family::Logistic, Family::Forest], 4, Subjects::Train).unwrap();
    let seen = (0..SUBJECTS).filter(|i| split_of(SubjectId(*i)) != Split::HeldOut);
    assert_eq!((report.rows, report.folds, report.features), (seen.clone().count(), 4, 3));
    assert_eq!(report.positives, seen.filter(|i| dies(*i) && i % 100 != 0).count());
    let [logistic, forest] = report.families.as_slice() else { panic!("{report:?}") };
    assert!(logistic.judged.as_ref().unwrap().mean.auroc.unwrap() > 0.8);
    assert!(forest.judged.is_none() && forest.refused.as_ref().unwrap().contains("forest.trees"));
    let written = serde_json::to_value(&report).unwrap();
    assert!(written["families"][0]["mean"]["auroc"].is_f64() && written["families"][1]["refused"].is_string());
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file).unwrap()).unwrap();
    let batch = reader.build().unwrap().next().unwrap().unwrap();
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["subject_id", "prediction_time", "boolean_value", "fold", "risk_logistic"]);
    assert_eq!((batch.num_rows(), batch.column(4).null_count()), (report.rows, 0));
    let truth = |row| dies(batch.column(0).as_primitive::<Int64Type>().value(row));
    let differ = (0..batch.num_rows()).filter(|&row| batch.column(2).as_boolean().value(row) != truth(row)).count();
    assert!(differ <= 6, "those whose death was withdrawn: {differ}");
    assert_eq!(run(&[Family::Logistic], 4, Subjects::All).unwrap().rows as i64, SUBJECTS);
    assert_eq!(place.registry.list().unwrap(), []);
    let few = Place::new((0..SUBJECTS).filter(|i| !dies(*i)));
    let mut progress = |_: &str| {};
    let refused = few.runtime.block_on(learn::crossval(
        &few.source(),
        &task,
        &[Family::Logistic],
        5,
        Subjects::All,
        None,
        &mut progress,
    ));
    assert!(matches!(refused, Err(LearnError::Cohort { .. })));
}

#[test]
fn too_little_to_learn_from_is_refused_and_registers_nothing() {
    let reason = |place: &Place, toml: &str| match place.train(toml).unwrap_err() {
        LearnError::Cohort { reason, .. } => reason,
        other => panic!("{other}"),
    };
    let place = Place::new(0..120);
    assert!(reason(&place, &TASK.replace("min_subjects = 50", "min_subjects = 121")).starts_with("120 subjects"));
    assert!(
        reason(&place, &TASK.replace("min_positives = 10", "min_positives = 119")).contains("min_positives is 119")
    );
    assert!(
        reason(&place, &TASK.replace("24h\"], enc", "35h\"], enc")).contains("positive"),
        "all have died or live on"
    );
    assert!(reason(&place, &TASK.replace("\"ICU\"", "\"WARD\"")).starts_with("no prediction"));
    let living = Place::new((0..SUBJECTS).filter(|i| !dies(*i)));
    assert!(reason(&living, &TASK.replace("min_positives = 10", "min_positives = 1")).starts_with("0 of"));
    assert!(reason(&living, TASK).ends_with("that occur in no record with a prediction: death"));
    let dying = Place::new((0..SUBJECTS).filter(|i| dies(*i) && i % 100 != 0));
    let all = reason(&dying, &TASK.replace("min_subjects = 50", "min_subjects = 5"));
    assert!(all.contains("rows of training subjects are positive, and both outcomes are needed"), "{all}");
    assert_eq!(place.registry.list().unwrap(), []);
}

#[test]
fn a_model_of_other_features_is_not_evaluated() {
    let place = Place::new(0..SUBJECTS);
    place.train(TASK).unwrap();
    let concepts = BTreeMap::from([("heart_rate".to_owned(), "/min".to_owned())]);
    let other = Arc::new(FeatureSpec::parse("features.toml", &FEATURES.replace("\"last\", ", ""), &concepts).unwrap());
    let task = task(TASK);
    let evaluate = |features, version| {
        let options = EvaluateOptions { version, ..CHAMPION };
        let source = Source { features, ..place.source() };
        place.runtime.block_on(learn::evaluate(&source, &place.registry, &task, options))
    };
    assert!(matches!(evaluate(other, None), Err(LearnError::OtherFeatures { version: 1, .. })));
    assert!(matches!(evaluate(spec(), Some(5)), Err(LearnError::NoVersion { version: 5, .. })));
}

#[test]
fn labels_of_the_library_are_written_as_meds_labels() {
    let place = Place::new(0..SUBJECTS);
    let yaml = ACES.replace("AUSCULT//PREDICTION", "ENCOUNTER//ICU//START").replace("+ 24h", "+ 48h");
    let config = AcesConfig::parse(&TextFile { name: "x.yaml".to_owned(), text: yaml }).unwrap();
    let file = place.folder.path().join("labels.parquet");
    let report = place.runtime.block_on(learn::label(&place.library, &config, &file)).unwrap();
    let deaths = (0..SUBJECTS).filter(|i| dies(*i) && i % 100 != 0).count() as u64;
    assert_eq!((report.labels, report.positives, report.subjects), (SUBJECTS as u64, Some(deaths), SUBJECTS as u64));
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), SUBJECTS);
}

#[test]
fn the_matrices_of_the_library_are_those_of_its_export() {
    let place = Place::new(0..SUBJECTS);
    let folder = place.folder.path();
    let tabular = learn::Tabular {
        windows: vec!["6h".parse().unwrap(), "full".parse().unwrap()],
        aggregates: vec![Aggregate::CodeCount, Aggregate::ValueSum, Aggregate::ValueMax],
        min_count: 10,
    };
    let direct = folder.join("direct");
    let report = place.runtime.block_on(learn::tabularize_library(&place.library, &tabular, &direct)).unwrap();
    // A row each hour of the first day, one at the end of the stay, one behind it, and one at a death that was not
    // withdrawn.
    let deaths = (0..SUBJECTS).filter(|i| dies(*i) && i % 100 != 0).count() as u64;
    assert_eq!((report.rows, report.codes, report.value_codes), (26 * SUBJECTS as u64 + deaths, 5, 1));

    let (export, exported) = (folder.join("export"), folder.join("exported"));
    place.runtime.block_on(export_meds(&place.library, &export, &mut |_| {})).unwrap();
    let again = learn::tabularize_meds(&export, &tabular, &exported).unwrap();
    assert_eq!((report.rows, report.stored, report.bytes), (again.rows, again.stored, again.bytes));
    let (have, want) = (files(&direct), files(&exported));
    // codes.parquet; and for every split and partition rows.parquet and 2 x 3 matrices.
    assert_eq!(have.len(), 1 + 3 * PARTITIONS as usize * 7);
    assert_eq!(have.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    assert!(have == want, "the bytes differ");
}

/// Every file below a folder, by its path in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}
