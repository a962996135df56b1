use std::collections::BTreeMap;
use std::fs::File;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use url::Url;

use crate::events::{EventKey, EventRef, EventsBuilder, EventsView, HOUR, JOIN, LEAVE, Op, SubjectId};
use crate::learn::aces::Evaluator;
use crate::learn::facts::Facts;
use crate::learn::{AcesConfig, label};
use crate::library::{Library, Table, with_position};
use crate::settings::TextFile;

/// Asks for columns that most tasks do not ask for.
const TASK: &str = r#"
predicates:
  high: {code: LAB, other_cols: {unit: mg}, value_min: 50}
  worse: {code: NOTE, other_cols: {text_value: worse}}
  either: {expr: "or(high, worse)"}
trigger: _ANY_EVENT
windows:
  input: {start: NULL, end: trigger, start_inclusive: true, end_inclusive: true, index_timestamp: end}
  target: {start: trigger, end: start + 12h, start_inclusive: false, end_inclusive: true, label: either}
"#;

/// Rows of three subjects in one partition, a message each. The second is found to be the first: what it said is
/// moved there, and told under its identifier from then on. The third is nobody's but its own.
fn told() -> Vec<RecordBatch> {
    let fact = |i: i64| EventRef {
        subject: Some(SubjectId(1 + i % 3)),
        time: (i % 11 != 0).then_some(i * i % 97 * HOUR),
        code: ["LAB", "NOTE", "VISIT"][(i / 3 % 3) as usize],
        numeric_value: (i % 2 == 0).then_some((i * 7 % 100) as f32),
        text_value: Some(if i % 4 == 0 { "worse" } else { "better" }),
        unit: Some(if i % 5 == 0 { "g" } else { "mg" }),
        concept: None,
        implausible: i % 13 == 0,
        recorded_at: i,
        op: if i % 17 == 16 { Op::Retract } else { Op::Assert },
        event_key: EventKey([(i % 90) as u8; 16]),
        encounter_id: None,
        source: "raw-0-1#0",
    };
    let of_second = |i: &i64| i % 3 == 1;
    let link = |code, subject, text| EventRef {
        subject: Some(SubjectId(subject)),
        code,
        text_value: Some(text),
        op: Op::Assert,
        event_key: EventKey([255; 16]),
        ..fact(1)
    };
    let mut messages = Vec::new();
    let mut push = |event: EventRef<'_>| {
        let mut builder = EventsBuilder::new();
        builder.push(&event).unwrap();
        messages.push(with_position(&builder.finish().unwrap(), 0, messages.len() as i64).unwrap());
    };
    (0..150).for_each(|i| push(fact(i)));
    push(link(LEAVE, 2, "1 1 2"));
    push(link(JOIN, 1, "2 1 2"));
    for i in (0..150).filter(of_second) {
        push(EventRef { subject: Some(SubjectId(1)), source: &format!("raw-0-1#0@2~0.{i}.0"), ..fact(i) });
    }
    for i in (150..240).filter(of_second) {
        push(EventRef { subject: Some(SubjectId(1)), source: "raw-0-1#0@2", ..fact(i) });
        // Written by who had not heard of it yet.
        push(fact(i + 300));
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_the_columns_they_need_are_labels_of_all_columns() {
    let messages = told();
    check(TASK, messages.clone(), &[1, 3]).await;
    // Nothing but codes and values counts, before and after something was linked.
    let plain = TASK.replace(", other_cols: {unit: mg}", "").replace(", other_cols: {text_value: worse}", "");
    let plain = plain.replace("start + 12h", "start + 2h");
    check(&plain, messages.clone(), &[1, 3]).await;
    check(&plain, messages[..150].to_vec(), &[1, 2, 3]).await;
}

#[tokio::test]
async fn a_subject_is_labelled_once_nothing_more_is_told_of_it() {
    // Four in turn, and a last word on the first.
    let subjects: Vec<i64> = (0..40_000).map(|row| row / 10_000).chain([0]).collect();
    let mut builder = EventsBuilder::new();
    for (row, subject) in subjects.iter().enumerate() {
        let event = EventRef {
            subject: Some(SubjectId(*subject)),
            time: Some(row as i64),
            code: "LAB",
            numeric_value: None,
            text_value: None,
            unit: None,
            concept: None,
            implausible: false,
            recorded_at: 0,
            op: Op::Assert,
            event_key: EventKey((row as u128).to_be_bytes()),
            encounter_id: None,
            source: "import",
        };
        builder.push(&event).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let library = Library::open(&Url::from_directory_path(folder.path()).unwrap()).await.unwrap();
    let messages = vec![with_position(&builder.finish().unwrap(), 0, 0).unwrap()];
    library.append(Table::Events, messages, &BTreeMap::from([(0, 0)])).await.unwrap();

    let config = AcesConfig::parse(&TextFile { name: "t.yaml".to_owned(), text: TASK.to_owned() }).unwrap();
    let twice = [library.history(0).await.unwrap(), library.history(0).await.unwrap()];
    let mut seen = Vec::new();
    let mut each = |facts: &mut Facts, SubjectId(subject): SubjectId| {
        let known: Vec<i64> = facts.subjects().iter().map(|known| known.0).collect();
        seen.push((subject, facts.take(SubjectId(subject)).len(), known));
        Ok(())
    };
    Facts::new(&config).read_by_subject(twice, &mut each).await.unwrap();
    // A batch of rows is read at once, so the one after is known already, but never the one after that.
    let expected =
        [(1, 10_000, vec![0, 1, 2]), (2, 10_000, vec![0, 2, 3]), (3, 10_000, vec![0, 3]), (0, 10_001, vec![0])];
    assert_eq!(seen, expected);
}

async fn check(task: &str, messages: Vec<RecordBatch>, subjects: &[i64]) {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::open(&Url::from_directory_path(folder.path()).unwrap()).await.unwrap();
    let up_to = BTreeMap::from([(0, messages.len() as i64 - 1)]);
    library.append(Table::Events, messages, &up_to).await.unwrap();
    let config = AcesConfig::parse(&TextFile { name: "t.yaml".to_owned(), text: task.to_owned() }).unwrap();

    let mut facts = Facts::new(&config);
    let mut history = library.history(0).await.unwrap();
    while let Some(batch) = history.next().await.unwrap() {
        let view = EventsView::new(&batch).unwrap();
        (0..view.len()).for_each(|i| facts.apply(&view.row(i)));
    }
    assert_eq!(facts.subjects(), subjects.iter().copied().map(SubjectId).collect::<Vec<_>>());
    let mut expected = Vec::new();
    for subject in facts.subjects() {
        let of = facts.take(subject);
        let labels = Evaluator::new(&config).labels(facts.codes(), &of);
        expected.extend(labels.iter().map(|label| (subject.0, label.prediction_time, label.value.unwrap())));
    }

    let out = folder.path().join("labels.parquet");
    let report = label(&library, &config, &out).await.unwrap();
    let positives = expected.iter().filter(|label| label.2).count() as u64;
    assert_eq!((report.labels, report.positives), (expected.len() as u64, Some(positives)));
    assert!(positives > 10 && report.labels > positives + 10 && report.absent.is_empty());
    let mut found = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(out).unwrap()).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let subjects = batch.column(0).as_primitive::<Int64Type>();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let values = batch.column(2).as_boolean();
        found.extend((0..batch.num_rows()).map(|i| (subjects.value(i), times.value(i), values.value(i))));
    }
    assert_eq!(found, expected);
}
