use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use chrono::DateTime;
use futures::StreamExt as _;

use super::whole::{Place, TASK, dies, task};
use crate::events::{DAY, HOUR, Micros};
use crate::learn::{Settled, settle};
use crate::library::{LibraryError, Query, Table, predictions_batch};

/// A message of `auscult.scores`.
fn score(subject: i64, time: Micros) -> Vec<u8> {
    let time = DateTime::from_timestamp_micros(time).unwrap().to_rfc3339();
    format!(
        r#"{{"task":"death","subject":"{subject}","encounter":"stay","prediction_time":"{time}","risk":0.25,"status":"ok","model":{{"name":"death","version":3}},"source":"raw-0-1#0"}}"#
    )
    .into_bytes()
}

fn archive(place: &Place, position: i64, scores: &[(i64, Micros)]) {
    let json: Vec<Vec<u8>> = scores.iter().map(|(subject, time)| score(*subject, *time)).collect();
    let messages: Vec<(u32, i64, &[u8])> =
        json.iter().zip(position..).map(|(json, position)| (0, position, json.as_slice())).collect();
    let rows = predictions_batch(&messages).unwrap();
    let up_to = BTreeMap::from([(0, position + scores.len() as i64 - 1)]);
    place.runtime.block_on(place.library.append(Table::Predictions, vec![rows], &up_to)).unwrap();
}

fn settled(place: &Place) -> Settled {
    let mut all = place.runtime.block_on(settle(&place.library, &[task(TASK)], &mut |_| {})).unwrap();
    all.remove(0)
}

fn rows(place: &Place, sql: &str) -> Vec<RecordBatch> {
    place.runtime.block_on(async {
        let stream = Query::parse(sql).unwrap().run(&place.library).await.unwrap();
        stream.map(Result::unwrap).collect().await
    })
}

#[test]
fn every_prediction_settles_once_with_the_label_that_training_would_give_it() {
    let place = Place::new(0..200);
    assert_eq!(settled(&place), nothing(0), "no prediction, no label");

    let due = |subject: i64| (subject, subject % 50 * DAY + 24 * HOUR);
    archive(&place, 0, &(0..120).map(due).collect::<Vec<_>>());
    let first = settled(&place);
    let died = |subjects: std::ops::Range<i64>| subjects.filter(|i| dies(*i) && i % 100 != 0).count() as u64;
    assert_eq!((first.positives, first.negatives), (died(0..120), 120 - died(0..120)));
    assert_eq!((first.without, first.open, first.lags.len()), (0, 0, 120));
    assert!(first.lags.iter().all(|lag| *lag >= 24 * HOUR), "no label settles before its window has closed");
    assert_eq!(settled(&place), nothing(0), "nothing settles twice");

    // New predictions settle beside those that have; what cannot be settled yet stays open.
    let mut scores: Vec<(i64, Micros)> = (120..200).map(due).collect();
    // Its window ends after all that is known.
    scores.push((49, 49 * DAY + 48 * HOUR));
    // Nothing is known of it, and it may yet come.
    scores.push((77_777, 0));
    archive(&place, 120, &scores);
    let second = settled(&place);
    assert_eq!((second.positives, second.negatives), (died(120..200), 80 - died(120..200)));
    assert_eq!((second.without, second.open), (0, 2));
    assert_eq!(settled(&place), nothing(2));

    let all = rows(&place, r#"SELECT count(*), count(DISTINCT "position"), count(boolean_value) FROM labels"#);
    let counts: Vec<i64> = (0..3).map(|i| all[0].column(i).as_primitive::<Int64Type>().value(0)).collect();
    assert_eq!(counts, [200, 200, 200]);
    let wrong = rows(
        &place,
        r#"SELECT 1 FROM labels l JOIN predictions p ON l."position" = p."position"
           WHERE l.subject <> p.subject OR l.prediction_time <> p.prediction_time OR l.risk <> p.risk
              OR l.model_version <> 3 OR l.closes > l.known OR l.closes < l.prediction_time"#,
    );
    assert_eq!(wrong.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
}

#[test]
fn who_settles_on_what_another_has_settled_meanwhile_is_refused() {
    let place = Place::new(0..20);
    archive(&place, 0, &[(3, 3 * DAY + 24 * HOUR)]);
    let since = place.runtime.block_on(place.library.settlements()).unwrap();
    assert_eq!(settled(&place).lags.len(), 1);
    let again = rows(&place, "SELECT * FROM labels").remove(0);
    let refused = place.runtime.block_on(place.library.settle(&again, since));
    assert!(matches!(refused, Err(LibraryError::Conflict { table: Table::Labels })), "{refused:?}");
    assert_eq!(place.runtime.block_on(place.library.rows(Table::Labels)).unwrap(), 1);
}

#[test]
fn a_prediction_that_gets_no_label_is_given_up_after_its_time() {
    let place = Place::new(0..20);
    // Of a subject that nothing is known of, made long before all that is.
    archive(&place, 0, &[(77_777, -200 * DAY), (77_777, -50 * DAY)]);
    let settled = settled(&place);
    assert_eq!((settled.without, settled.open, settled.lags.len()), (1, 1, 0));
    let labels = rows(&place, "SELECT reason FROM labels WHERE boolean_value IS NULL");
    assert_eq!(labels.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
}

fn nothing(open: u64) -> Settled {
    Settled { task: "death".to_owned(), positives: 0, negatives: 0, without: 0, lags: Vec::new(), open }
}
