//! Labels that are more than yes or no, from the library to a judged model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::whole::{Place, chance};
use crate::events::{EventKey, EventRef, EventsBuilder, HOUR, MEDS_DEATH, Micros, Op, Split, SubjectId, split_of};
use crate::features::FeatureSpec;
use crate::learn::{
    self, ClassFigures, EvaluateOptions, LearnError, PanelFigures, Part, Source, Subjects, Task, TrainReport,
};
use crate::models::{Bundle, Family};
use crate::settings::{Problem, TextFile};

const SUBJECTS: i64 = 1_200;

const TASK: &str = r#"
name = "stay"
horizon = "24h"
trigger = {at = ["24h"], encounter = "ICU"}
train = {family = "logistic", min_subjects = 50, min_positives = 10}
gate = {min_auroc = 0.7}
"#;

const ACES: &str = r#"
predicates:
  prediction: {code: AUSCULT//PREDICTION}
  died: {code: MEDS_DEATH}
  home: {code: "DISCHARGE//HOME"}
  ward: {code: "DISCHARGE//WARD"}
  fall: {code: FALL}
  lactate: {code: "LOINC//2524-7"}
  left: {expr: "or(died, home, ward)"}
trigger: prediction
windows:
  input: {start: NULL, end: trigger, start_inclusive: true, end_inclusive: true, index_timestamp: end}
  target: {start: trigger, end: start -> left, start_inclusive: false, end_inclusive: true, label: LABEL}
"#;

const FEATURES: &str = r#"
[[feature]]
concepts = ["heart_rate"]
windows = ["24h"]
aggregates = ["mean"]
"#;

fn parse(label: &str, of: &str) -> Result<Vec<Task>, Vec<Problem>> {
    let file = TextFile {
        name: "tasks/stay.toml".to_owned(),
        text: format!("{TASK}\n[label]\naces = \"stay.yaml\"\n{label}\n"),
    };
    let aces = TextFile { name: "tasks/stay.yaml".to_owned(), text: ACES.replace("LABEL", of) };
    Task::parse(&file, &[aces])
}

fn spec() -> Arc<FeatureSpec> {
    let concepts = BTreeMap::from([("heart_rate".to_owned(), "/min".to_owned())]);
    Arc::new(FeatureSpec::parse("features.toml", FEATURES, &concepts).unwrap())
}

/// What becomes of a subject: when it leaves, by hours after the prediction, and how. The sicker,
/// the sooner and the likelier it dies.
fn end(subject: i64) -> (f64, &'static str) {
    let sick = chance(subject, 0);
    let hours = 1.0 + 29.0 * chance(subject, 1) * (1.2 - sick);
    let lot = chance(subject, 2);
    let how = if lot < sick * sick {
        MEDS_DEATH
    } else if lot < 0.5 + sick / 2.0 {
        "DISCHARGE//WARD"
    } else {
        "DISCHARGE//HOME"
    };
    (hours, how)
}

fn falls(subject: i64) -> i64 {
    (4.0 * chance(subject, 0) * chance(subject, 3)).round() as i64
}

fn lactate(subject: i64) -> f64 {
    1.0 + 4.0 * chance(subject, 0) + chance(subject, 4)
}

fn stays() -> RecordBatch {
    let mut builder = EventsBuilder::new();
    for subject in 0..SUBJECTS {
        let mut fact = 0_u8;
        let mut push = |time: Micros, code: &str, concept: Option<&str>, value: Option<f64>| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&subject.to_le_bytes());
            bytes[8] = fact;
            fact += 1;
            let event = EventRef {
                subject: Some(SubjectId(subject)),
                time: Some(time),
                code,
                numeric_value: value.map(|value| value as f32),
                text_value: None,
                unit: None,
                concept,
                implausible: false,
                recorded_at: time,
                op: Op::Assert,
                event_key: EventKey(bytes),
                encounter_id: Some("stay"),
                source: "import",
            };
            builder.push(&event).unwrap();
        };
        let (hours, how) = end(subject);
        let end = 24 * HOUR + (hours * HOUR as f64) as Micros;
        push(0, "ENCOUNTER//ICU//START", None, None);
        push(HOUR, "LOINC//8867-4", Some("heart_rate"), Some(60.0 + 80.0 * chance(subject, 0)));
        // Of the time before the prediction, which no label may count.
        push(2 * HOUR, "FALL", None, None);
        push(2 * HOUR, "LOINC//2524-7", None, Some(99.0));
        push(24 * HOUR, "HOUR", None, None);
        for fall in 0..falls(subject) {
            push(24 * HOUR + (fall + 1) * HOUR / 8, "FALL", None, None);
        }
        push(24 * HOUR + HOUR / 2, "LOINC//2524-7", None, Some(50.0));
        push(24 * HOUR + HOUR * 3 / 4, "LOINC//2524-7", None, Some(lactate(subject)));
        push(end, how, None, None);
        push(end + HOUR, "ENCOUNTER//ICU//END", None, None);
    }
    builder.finish().unwrap()
}

struct Hospital(Place);

impl Hospital {
    fn new() -> Hospital {
        Hospital(Place::of(vec![stays()], 2))
    }

    fn source(&self) -> Source<'_> {
        Source { features: spec(), ..self.0.source() }
    }

    fn train(&self, task: &Task) -> Result<TrainReport, LearnError> {
        let (source, mut progress) = (self.source(), |_: &str| {});
        let trained = learn::train(&source, &self.0.registry, task, None, 7, &mut progress);
        self.0.runtime.block_on(trained)
    }

    /// The predictions of the held-out subjects by its champion, and the figures of the whole answer.
    fn evaluate(&self, task: &Task) -> (RecordBatch, Value) {
        let file = self.0.folder.path().join("predictions.parquet");
        let options = EvaluateOptions {
            version: None,
            against: None,
            part: Part::HeldOut,
            predictions: Some(&file),
            plots: None,
        };
        let evaluation =
            self.0.runtime.block_on(learn::evaluate(&self.source(), &self.0.registry, task, options)).unwrap();
        (read(&file), serde_json::to_value(&evaluation).unwrap())
    }

    /// The predictions of the other subjects by logistic regression in three folds of them, and its report.
    fn crossval(&self, task: &Task) -> (RecordBatch, Value) {
        let file = self.0.folder.path().join("folds.parquet");
        let (source, mut progress) = (self.source(), |_: &str| {});
        let run = learn::crossval(&source, task, &[Family::Logistic], 3, Subjects::Train, Some(&file), &mut progress);
        let report = self.0.runtime.block_on(run).unwrap();
        (read(&file), serde_json::to_value(&report.families[0]).unwrap())
    }

    fn champion(&self, task: &Task) -> Bundle {
        let champion = self.0.registry.champion(&task.name).unwrap().unwrap();
        self.0.registry.load(&task.name, &champion).unwrap()
    }
}

/// A file of no more rows than there are subjects.
fn read(file: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
    reader.with_batch_size(SUBJECTS as usize).build().unwrap().next().unwrap().unwrap()
}

fn held_out() -> impl Iterator<Item = i64> {
    (0..SUBJECTS).filter(|subject| split_of(SubjectId(*subject)) == Split::HeldOut)
}

fn subjects(batch: &RecordBatch) -> Vec<SubjectId> {
    batch["subject_id"].as_primitive::<Int64Type>().values().iter().copied().map(SubjectId).collect()
}

fn column(batch: &RecordBatch, name: &str) -> Vec<f64> {
    batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().values().to_vec()
}

#[test]
fn which_class_a_stay_ends_in() {
    let place = Hospital::new();
    let task = parse("kind = \"multiclass\"\nof = [\"home\", \"ward\", \"died\"]\nwatch = \"died\"", "died")
        .unwrap()
        .remove(0);
    let report = place.train(&task).unwrap();
    assert!(report.promoted, "{}", report.reason);
    let dead = held_out().filter(|subject| end(*subject).1 == MEDS_DEATH).count();
    assert_eq!((report.metrics.n, report.metrics.positives), (held_out().count(), dead));
    let (batch, figures) = place.evaluate(&task);
    let all = ["home", "ward", "died"].map(|class| column(&batch, &format!("predicted_{class}")));
    for row in 0..batch.num_rows() {
        assert!((all.iter().map(|class| class[row]).sum::<f64>() - 1.0).abs() < 1e-12);
    }
    assert_eq!(all[2], column(&batch, "predicted_boolean_probability"));
    assert_eq!(figures["panel"], serde_json::to_value(report.panel).unwrap());
    assert_eq!(figures["panel"]["kind"], "class");
    let macro_auroc = figures["panel"]["macro_auroc"].as_f64().unwrap();
    assert!(macro_auroc > 0.65, "{figures:?}");

    // In folds: the figures of what was written of each row, by the model that did not see its subject.
    let (batch, report) = place.crossval(&task);
    let names = ["home", "ward", "died"].map(str::to_owned);
    let all = names.each_ref().map(|class| column(&batch, &format!("predicted_{class}_logistic")));
    assert_eq!(all[2], column(&batch, "risk_logistic"));
    let (subjects, told) = (subjects(&batch), (0..batch.num_rows()).flat_map(|row| all.each_ref().map(|of| of[row])));
    assert_eq!(subjects.len(), SUBJECTS as usize - held_out().count());
    let class = |subject: &SubjectId| match end(subject.0).1 {
        "DISCHARGE//HOME" => 0,
        "DISCHARGE//WARD" => 1,
        _ => 2,
    };
    let truth: Vec<usize> = subjects.iter().map(class).collect();
    let figures = ClassFigures::of(&names, &told.collect::<Vec<f64>>(), &truth, &subjects, task.train.seed);
    assert!(figures.macro_auroc.unwrap() > 0.65, "{figures:?}");
    assert_eq!(report["panel"], serde_json::to_value(PanelFigures::Class(figures)).unwrap());
}

#[test]
fn how_soon_a_patient_dies_though_most_leave_before() {
    let place = Hospital::new();
    let label = "kind = \"survival\"\ntimes = [\"6h\", \"12h\", \"18h\"]\nwatch = \"12h\"";
    let task = parse(label, "died").unwrap().remove(0);
    let report = place.train(&task).unwrap();
    let of = |subject: &i64| {
        let (hours, how) = end(*subject);
        (hours, how == MEDS_DEATH)
    };
    let lost = held_out().filter(|subject| of(subject).0 < 12.0 && !of(subject).1).count();
    let dead = held_out().filter(|subject| of(subject).0 <= 12.0 && of(subject).1).count();
    assert!(lost > 20);
    assert_eq!((report.metrics.n, report.metrics.positives), (held_out().count() - lost, dead));
    let (batch, figures) = place.evaluate(&task);
    assert_eq!(batch.num_rows(), report.metrics.n);
    assert_eq!(figures["panel"]["n"], held_out().count(), "who was lost counts as long as it was seen");
    let all = ["6h", "12h", "18h"].map(|time| column(&batch, &format!("predicted_{time}")));
    assert!((0..batch.num_rows()).all(|row| all[0][row] <= all[1][row] && all[1][row] <= all[2][row]));
    assert_eq!(all[1], column(&batch, "predicted_boolean_probability"));

    let (batch, report) = place.crossval(&task);
    assert_eq!(column(&batch, "predicted_12h_logistic"), column(&batch, "risk_logistic"));
    let seen = |subject: &SubjectId| of(&subject.0).0 >= 12.0 || of(&subject.0).1;
    assert!(subjects(&batch).iter().all(seen));
    let panel = &report["panel"];
    assert_eq!((&panel["kind"], &panel["n"]), (&"time".into(), &(SUBJECTS as usize - held_out().count()).into()));
    assert!(batch.num_rows() < SUBJECTS as usize - held_out().count() && panel["harrell"].as_f64().unwrap() > 0.6);
}

#[test]
fn how_many_falls_and_how_much_lactate() {
    let place = Hospital::new();
    let count = parse("kind = \"count\"\nwatch = \">= 2\"", "fall").unwrap().remove(0);
    let report = place.train(&count).unwrap();
    assert_eq!(report.metrics.positives, held_out().filter(|subject| falls(*subject) >= 2).count());
    let mean = |of: &dyn Fn(i64) -> f64| held_out().map(of).sum::<f64>() / held_out().count() as f64;
    let (batch, _) = place.evaluate(&count);
    let told = column(&batch, "predicted_mean");
    let told = told.iter().sum::<f64>() / told.len() as f64;
    assert!((told - mean(&|subject| falls(subject) as f64)).abs() < 0.15, "{told}");

    let last = parse("kind = \"regression\"\nwatch = \">= 4.0\"\ncuts = 12", "lactate").unwrap().remove(0);
    let report = place.train(&last).unwrap();
    assert_eq!(report.metrics.positives, held_out().filter(|subject| lactate(*subject) as f32 >= 4.0).count());
    let (batch, figures) = place.evaluate(&last);
    let off = column(&batch, "predicted_mean").iter().sum::<f64>() / batch.num_rows() as f64;
    assert!((off - mean(&lactate)).abs() < 0.2);
    assert!(figures["panel"]["mae"].as_f64().unwrap() < 0.5, "{figures:?}");
    assert_eq!(place.champion(&last).output_names()[0], "mean");

    let (batch, report) = place.crossval(&last);
    let mean = column(&batch, "predicted_mean_logistic");
    let subjects = subjects(&batch);
    let off = subjects.iter().zip(&mean).map(|(subject, mean)| (lactate(subject.0) - mean).abs()).sum::<f64>();
    let mae = report["panel"]["mae"].as_f64().unwrap();
    assert!((mae - off / subjects.len() as f64).abs() < 1e-6 && mae < 0.5, "{report}");
    // What is watched is a cut of every fold.
    assert_eq!(column(&batch, "predicted_>= 4_logistic"), column(&batch, "risk_logistic"));
    let reached = subjects.iter().filter(|subject| lactate(subject.0) as f32 >= 4.0).count();
    let cuts = report["panel"]["cuts"].as_array().unwrap();
    assert!(cuts.iter().any(|at| at["cut"] == 4.0 && at["reached"] == reached), "{report}");
    // Of three values 50 is the highest, whatever the row; the one before the prediction is no label.
    let highest = parse("kind = \"regression\"\ntake = \"max\"\nwatch = \">= 60\"", "lactate").unwrap().remove(0);
    let error = place.train(&highest).unwrap_err().to_string();
    assert!(error.contains("0 of 1200 rows are positive"), "{error}");
}

#[test]
fn several_labels_are_as_many_tasks() {
    let tasks = parse("kind = \"multilabel\"\nof = [\"died\", \"fall\"]", "home").unwrap();
    let names: Vec<(&str, &str)> = tasks.iter().map(|task| (task.name.as_str(), task.title.as_str())).collect();
    assert_eq!(names, [("stay_died", "stay: died"), ("stay_fall", "stay: fall")]);
    let place = Hospital::new();
    let positives = tasks.iter().map(|task| place.train(task).unwrap().metrics.positives).collect::<Vec<_>>();
    let dead = held_out().filter(|subject| end(*subject).1 == MEDS_DEATH).count();
    assert_eq!(positives, [dead, held_out().filter(|subject| falls(*subject) > 0).count()]);
}

#[test]
fn what_the_aces_file_cannot_give_is_said() {
    let problems = |label: &str, of: &str| -> Vec<(String, String)> {
        parse(label, of).unwrap_err().into_iter().map(|problem| (problem.file, problem.what)).collect()
    };
    let unknown = problems("kind = \"multilabel\"\nof = [\"died\", \"stroke\"]", "died");
    assert_eq!(unknown[0].0, "tasks/stay.yaml");
    assert!(unknown[0].1.contains("'stroke'"));
    let derived = problems("kind = \"regression\"\nwatch = \">= 1\"", "left");
    assert!(derived[0].1.contains("no values"), "{derived:?}");
    let long = format!("kind = \"multilabel\"\nof = [\"died\", \"{}\"]", "x".repeat(70));
    assert!(parse(&long, "died").is_err());
}
