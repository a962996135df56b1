//! The archive against a model, a race, a crash, and another tool's rewrite.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Schema};
use futures::StreamExt as _;
use proptest::prelude::*;
use tempfile::TempDir;
use url::Url;

use deltalake::DeltaTable;
use deltalake::kernel::Transaction;

use super::append::{Writer, commit_rows};
use super::import::FIRST;
use super::ordered::Ordered;
use super::table::DataFile;
use super::{Compacted, Library, LibraryError, Table, predictions_batch, with_position};
use crate::events::{EventKey, EventRef, EventsBuilder, EventsView, JOIN, Op, SomeEvents, SubjectId, TICK, bucket};

pub(super) fn temporary() -> (TempDir, Url) {
    let folder = tempfile::tempdir().unwrap();
    let url = Url::from_directory_path(folder.path()).unwrap();
    (folder, url)
}

/// The event of the `n`th fact of a subject; some columns null for some `n`.
pub(super) fn event(subject: i64, n: i64) -> EventRef<'static> {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&subject.to_le_bytes());
    key[8..].copy_from_slice(&n.to_le_bytes());
    EventRef {
        subject: Some(SubjectId(subject)),
        time: (n % 5 != 0).then_some(n * 1000),
        code: if n % 2 == 0 { "LOINC//8867-4" } else { "SNOMED//38341003" },
        numeric_value: (n % 2 == 0).then_some(n as f32 / 3.0),
        text_value: (n % 2 == 1).then_some("größer ∅"),
        unit: (n % 2 == 0).then_some("/min"),
        concept: (n % 3 == 0).then_some("heart_rate"),
        implausible: n % 9 == 0,
        recorded_at: n * 1000 + 7,
        op: Op::Assert,
        event_key: EventKey(key),
        encounter_id: (n % 4 != 0).then_some("00e1"),
        source: "raw.flat-0-1#0",
    }
}

pub(super) fn batch(events: &[EventRef<'_>]) -> RecordBatch {
    let mut builder = EventsBuilder::new();
    for event in events {
        builder.push(event).unwrap();
    }
    builder.finish().unwrap()
}

/// A message of some rows, told apart by its address.
fn message(partition: u32, position: i64, rows: i64) -> RecordBatch {
    let events: Vec<_> = (0..rows).map(|row| event(i64::from(partition), position * 100 + row)).collect();
    with_position(&batch(&events), partition, position).unwrap()
}

pub(super) async fn history(library: &Library, partition: u32) -> Vec<RecordBatch> {
    let mut history = library.history(partition).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = history.next().await.unwrap() {
        batches.push(batch);
    }
    batches
}

async fn whole(library: &Library, partition: u32) -> RecordBatch {
    arrow::compute::concat_batches(&Table::Events.schema(), &history(library, partition).await).unwrap()
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// One append: a partition, the messages (offset, rows) it brings, and where it says it reaches.
#[derive(Clone, Debug)]
struct Attempt {
    partition: u32,
    messages: Vec<(i64, i64)>,
    up_to: i64,
}

fn attempts() -> impl Strategy<Value = Vec<Attempt>> {
    let one = (0_u32..3, 0_i64..8, prop::collection::vec((0_i64..3, 0_i64..4), 0..4), -1_i64..3).prop_map(
        |(partition, first, steps, beyond)| {
            let mut at = first - 1;
            let messages: Vec<_> = steps
                .into_iter()
                .map(|(step, rows)| {
                    at += step + 1;
                    (at, rows)
                })
                .collect();
            Attempt { partition, messages, up_to: (at + beyond).max(0) }
        },
    );
    prop::collection::vec(one, 1..9)
}

/// What must come of an attempt, given where its partition stands.
fn expected(attempt: &Attempt, archived: Option<i64>) -> Result<(), &'static str> {
    let mut rows = attempt.messages.iter().filter(|message| message.1 > 0).map(|message| message.0);
    if rows.clone().any(|position| position > attempt.up_to) {
        return Err("gap");
    }
    match archived {
        Some(archived) if archived >= attempt.up_to => Err("behind"),
        Some(archived) if rows.any(|position| position <= archived) => Err("gap"),
        _ => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariant_04_a_commit_holds_exactly_the_rows_after_the_last_position(attempts in attempts()) {
        run(async {
            let (_folder, url) = temporary();
            let mut archived: BTreeMap<u32, i64> = BTreeMap::new();
            let mut rows: BTreeMap<u32, Vec<RecordBatch>> = BTreeMap::new();
            for attempt in attempts {
                // A new library each time: nothing may depend on what a process remembers.
                let library = Library::open(&url).await.unwrap();
                let messages: Vec<_> =
                    attempt.messages.iter().map(|&(at, rows)| message(attempt.partition, at, rows)).collect();
                let up_to = BTreeMap::from([(attempt.partition, attempt.up_to)]);
                // The order of the batches must not matter.
                let given: Vec<_> = messages.iter().rev().cloned().collect();
                let got = library.append(Table::Events, given, &up_to).await;
                match expected(&attempt, archived.get(&attempt.partition).copied()) {
                    Ok(()) => {
                        let count: usize = messages.iter().map(RecordBatch::num_rows).sum();
                        assert_eq!(got.unwrap(), count as u64);
                        archived.extend(up_to);
                        rows.entry(attempt.partition).or_default().extend(messages);
                    }
                    Err("behind") => assert!(matches!(got, Err(LibraryError::Behind { .. })), "{got:?}"),
                    Err(_) => assert!(matches!(got, Err(LibraryError::Gap { .. })), "{got:?}"),
                }
                assert_eq!(library.positions(Table::Events).await.unwrap(), archived);
            }
            let library = Library::open(&url).await.unwrap();
            for partition in 0..3 {
                let messages = rows.remove(&partition).unwrap_or_default();
                let should = arrow::compute::concat_batches(&Table::Events.schema(), &messages).unwrap();
                assert_eq!(whole(&library, partition).await, should);
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_of_one_partition_archive_it_once() {
    let (_folder, url) = temporary();
    for round in 0..6 {
        // In the first round they race for the making of the table too.
        let race = |rows: i64| {
            let url = url.clone();
            tokio::spawn(async move {
                let library = Library::open(&url).await.unwrap();
                let given = vec![message(0, round, rows)];
                library.append(Table::Events, given, &BTreeMap::from([(0, round)])).await
            })
        };
        let racers = [race(3), race(3), race(3)];
        let mut won = 0;
        for racer in racers {
            match racer.await.unwrap() {
                Ok(rows) => won += rows,
                Err(LibraryError::Conflict { .. } | LibraryError::Behind { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(won, 3, "round {round}");
        let library = Library::open(&url).await.unwrap();
        assert_eq!(library.positions(Table::Events).await.unwrap(), BTreeMap::from([(0, round)]));
        assert_eq!(whole(&library, 0).await.num_rows() as i64, (round + 1) * 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_different_partitions_do_not_hinder_each_other() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    let start = vec![message(0, 0, 1), message(1, 0, 1)];
    library.append(Table::Events, start, &BTreeMap::from([(0, 0), (1, 0)])).await.unwrap();
    let writer = |partition: u32| {
        let library = library.clone();
        tokio::spawn(async move {
            for at in 1..8 {
                let given = vec![message(partition, at, 2)];
                library.append(Table::Events, given, &BTreeMap::from([(partition, at)])).await.unwrap();
            }
        })
    };
    let writers = [writer(0), writer(1)];
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(library.positions(Table::Events).await.unwrap(), BTreeMap::from([(0, 7), (1, 7)]));
    for partition in 0..2 {
        assert_eq!(whole(&library, partition).await.num_rows(), 15);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_on_a_state_that_another_changed_is_refused_for_the_same_partition_only() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    let state = library.open_or_make(Table::Events).await.unwrap();
    let position = |partition, at| vec![Transaction::new(Table::Events.application(partition), at)];
    commit_rows(&state, Table::Events, Vec::new(), position(0, 5)).await.unwrap();
    // All three have read that nothing is archived.
    let stale = commit_rows(&state, Table::Events, Vec::new(), position(0, 5)).await;
    assert!(matches!(stale, Err(LibraryError::Conflict { .. })), "{stale:?}");
    commit_rows(&state, Table::Events, Vec::new(), position(1, 3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_uncommitted_is_no_row() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    library.append(Table::Events, vec![message(0, 0, 2)], &BTreeMap::from([(0, 0)])).await.unwrap();
    // The files of the next commit are written whole; then the process dies.
    let delta = library.open_table(Table::Events).await.unwrap().unwrap();
    let mut writer = Writer::new(&delta, Table::Events).unwrap();
    writer.write(&message(0, 1, 5)).await.unwrap();
    assert_eq!(writer.finish().await.unwrap().len(), 1);
    drop((delta, library));

    let library = Library::open(&url).await.unwrap();
    assert_eq!(library.positions(Table::Events).await.unwrap(), BTreeMap::from([(0, 0)]));
    library.append(Table::Events, vec![message(0, 1, 5)], &BTreeMap::from([(0, 1)])).await.unwrap();
    assert_eq!(whole(&library, 0).await.num_rows(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_column_comes_back_as_it_went_in() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    let long = "x".repeat(100_000);
    let mut events: Vec<EventRef<'_>> = (0..40).map(|n| event(i64::MIN + n, n)).collect();
    events.push(EventRef { subject: None, time: None, code: TICK, text_value: Some("idle"), ..event(0, 0) });
    events.push(EventRef { text_value: Some(""), numeric_value: Some(f32::MIN_POSITIVE), ..event(i64::MAX, 1) });
    events.push(EventRef {
        text_value: Some(&long),
        op: Op::Retract,
        recorded_at: -62_135_596_800_000_000,
        ..event(-1, 3)
    });
    let given = with_position(&batch(&events), 11, 0).unwrap();
    library.append(Table::Events, vec![given.clone()], &BTreeMap::from([(11, 4)])).await.unwrap();
    let back = whole(&library, 11).await;
    assert_eq!(back, given);
    let columns: Vec<usize> = (0..13).collect();
    assert_eq!(back.project(&columns).unwrap(), batch(&events));
    assert_eq!(library.positions(Table::Events).await.unwrap(), BTreeMap::from([(11, 4)]));
    assert_eq!((library.partitions().await.unwrap(), library.rows(Table::Events).await.unwrap()), (vec![11], 43));
    assert_eq!(whole(&library, 3).await.num_rows(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_and_order_outlive_checkpoints_and_a_foreign_rewrite() {
    let (folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    let mut given = Vec::new();
    for at in 0..45 {
        let (a, b) = (message(0, at, at % 3), message(1, at, 1));
        given.push(a.clone());
        library.append(Table::Events, vec![b, a], &BTreeMap::from([(0, at), (1, at)])).await.unwrap();
    }
    let should = arrow::compute::concat_batches(&Table::Events.schema(), &given).unwrap();
    assert_eq!(library.positions(Table::Events).await.unwrap(), BTreeMap::from([(0, 44), (1, 44)]));
    assert_eq!(whole(&library, 0).await, should);

    let delta = library.open_table(Table::Events).await.unwrap().unwrap();
    assert!(folder.path().join("events/_delta_log/00000000000000000039.checkpoint.parquet").exists());
    let (_, metrics) = delta.optimize().await.unwrap();
    assert!(metrics.num_files_removed > 40);
    assert_eq!(whole(&library, 0).await, should);
    let next = vec![message(0, 45, 2)];
    library.append(Table::Events, next, &BTreeMap::from([(0, 45)])).await.unwrap();
    assert_eq!(whole(&library, 0).await.num_rows(), should.num_rows() + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_changes_files_only_and_two_do_not_double_a_row() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    assert_eq!(library.compact(Table::Events).await.unwrap(), Compacted::default());
    library.append_history(vec![batch(&(0..40).map(|n| event(n % 2, n)).collect::<Vec<_>>())], 2).await.unwrap();
    for at in 0..30 {
        let rows = vec![message(0, at, 3), message(1, at, i64::from(at % 10 == 0))];
        library.append(Table::Events, rows, &BTreeMap::from([(0, at), (1, at)])).await.unwrap();
    }
    let before = [whole(&library, 0).await, whole(&library, 1).await];
    let mut reader = library.history(0).await.unwrap();
    // Two processes compact at once, while a third archives.
    let (other, archive) = (library.clone(), library.clone());
    let other = tokio::spawn(async move { other.compact(Table::Events).await });
    let archive = tokio::spawn(async move {
        archive.append(Table::Events, vec![message(0, 30, 1)], &BTreeMap::from([(0, 30)])).await
    });
    let one = library.compact(Table::Events).await;
    let (other, archive) = (other.await.unwrap(), archive.await.unwrap());
    assert_eq!(archive.unwrap(), 1);
    let done = [&one, &other].into_iter().flatten().filter(|done| done.before > 0).count();
    assert_eq!(done, 1, "{one:?} {other:?}");
    assert!([&one, &other].iter().all(|done| matches!(done, Ok(_) | Err(LibraryError::Conflict { .. }))));
    assert_eq!(library.rows(Table::Events).await.unwrap() as usize, before[0].num_rows() + before[1].num_rows() + 1);
    assert_eq!(whole(&library, 0).await.slice(0, before[0].num_rows()), before[0]);
    assert_eq!(whole(&library, 1).await, before[1]);
    assert_eq!(library.positions(Table::Events).await.unwrap(), BTreeMap::from([(0, 30), (1, 29)]));
    let delta = library.open_table(Table::Events).await.unwrap().unwrap();
    // Partition 1 had three files with live rows and one of imports: not worth a rewrite.
    let files = super::table::data_files(&delta, Table::Events).unwrap().len();
    // The row that was archived meanwhile is in the rewrite, or in a file of its own.
    assert!((5..=6).contains(&files), "{files}");
    // Nothing is a week old, so a reader of the state before still finds its files.
    assert_eq!(library.vacuum(Table::Events).await.unwrap(), 0);
    let mut rows = 0;
    while let Some(batch) = reader.next().await.unwrap() {
        rows += batch.num_rows();
    }
    assert_eq!(rows, before[0].num_rows());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_tables_are_archived_and_compacted_alike() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    for at in 0..10 {
        let score = format!(
            r#"{{"task":"t","subject":"{at}","prediction_time":"2026-01-03T00:00:00Z","risk":0.5,"status":"ok","source":"s"}}"#
        );
        let rows = predictions_batch(&[(0, at, score.as_bytes()), (1, at, score.as_bytes())]).unwrap();
        let up_to = BTreeMap::from([(0, at), (1, at)]);
        library.append(Table::Predictions, vec![rows.clone()], &up_to).await.unwrap();
        let again = library.append(Table::Predictions, vec![rows], &up_to).await;
        assert!(matches!(again, Err(LibraryError::Behind { .. })));
    }
    assert_eq!(library.compact(Table::Predictions).await.unwrap(), Compacted { before: 10, after: 1 });
    assert_eq!(library.rows(Table::Predictions).await.unwrap(), 20);
    assert_eq!(library.positions(Table::Predictions).await.unwrap(), BTreeMap::from([(0, 9), (1, 9)]));
    assert_eq!(library.positions(Table::Events).await.unwrap(), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_or_misplaced_row_is_an_error() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    let up_to = BTreeMap::from([(0, 5)]);
    let twice = vec![message(0, 5, 1), message(0, 5, 2)];
    assert!(matches!(
        library.append(Table::Events, twice, &up_to).await,
        Err(LibraryError::Double { position: 5, .. })
    ));
    let other = vec![message(1, 5, 1)];
    assert!(matches!(library.append(Table::Events, other, &up_to).await, Err(LibraryError::Gap { partition: 1, .. })));
    let bare = vec![batch(&[event(1, 1)])];
    assert!(matches!(library.append(Table::Events, bare, &up_to).await, Err(LibraryError::Column { .. })));
    assert_eq!(library.append(Table::Events, Vec::new(), &BTreeMap::new()).await.unwrap(), 0);
    assert_eq!(library.positions(Table::Events).await.unwrap(), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_history_comes_before_live_rows_in_the_order_it_became_known() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    library.append(Table::Events, vec![message(0, 0, 2)], &BTreeMap::from([(0, 0)])).await.unwrap();
    let partitions = 2;
    // Latest first within the batches, and equal times across them.
    let first: Vec<_> = (0..50).rev().map(|n| event(n % 4, n / 2)).collect();
    let second: Vec<_> = (50..60).map(|n| event(n % 4, n)).collect();
    let imported = library.append_history(vec![batch(&first[..20]), batch(&first[20..])], partitions).await.unwrap();
    assert_eq!(imported, 50);
    assert_eq!(library.append_history(vec![batch(&second)], partitions).await.unwrap(), 10);
    let back = whole(&library, 0).await;
    let view = EventsView::new(&back).unwrap();
    let of = |events: &[EventRef<'static>]| {
        let mut events: Vec<_> =
            events.iter().copied().filter(|e| e.subject.is_some_and(|s| bucket(s, partitions) == 0)).collect();
        events.sort_by_key(|e| e.recorded_at);
        events
    };
    let mut should = of(&first);
    should.extend(of(&second));
    let live = message(0, 0, 2);
    let live = EventsView::new(&live).unwrap();
    should.extend([live.row(0), live.row(1)]);
    assert_eq!((0..view.len()).map(|i| view.row(i)).collect::<Vec<_>>(), should);
    let positions = back["position"].clone();
    let positions = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&positions);
    assert_eq!((positions.value(0), positions.value(view.len() - 1)), (FIRST, 0));
    // Imports are no live positions, and the number of partitions stays.
    assert_eq!(library.positions(Table::Events).await.unwrap(), BTreeMap::from([(0, 0)]));
    let other = library.append_history(vec![batch(&second)], 3).await;
    assert!(matches!(other, Err(LibraryError::Partitions { have: 2, given: 3 })));
    let tick = EventRef { subject: None, ..event(0, 0) };
    assert!(library.append_history(vec![batch(&[tick])], 2).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn known_is_the_latest_content_and_contents_are_all() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    assert!(library.known().await.unwrap().is_empty() && library.contents().await.unwrap().is_empty());
    let old = event(1, 2);
    let redelivered = EventRef { recorded_at: 99_999, source: "raw.flat-1-7#0", concept: None, ..old };
    let corrected = EventRef { numeric_value: Some(70.5), ..old };
    let withdrawn = EventRef { op: Op::Retract, ..event(1, 4) };
    let tick = EventRef { subject: None, ..event(1, 6) };
    library.append_history(vec![batch(&[old, event(1, 4)])], 1).await.unwrap();
    let live = |events: &[EventRef<'_>], at| with_position(&batch(events), 0, at).unwrap();
    let rows = vec![live(&[redelivered, corrected, tick], 3), live(&[withdrawn], 4)];
    library.append(Table::Events, rows, &BTreeMap::from([(0, 4)])).await.unwrap();
    assert_eq!(super::fingerprint(&old), super::fingerprint(&redelivered));
    let known = library.known().await.unwrap();
    assert_eq!(known.len(), 2);
    assert_eq!(known[&old.event_key], super::fingerprint(&corrected));
    assert_eq!(known[&withdrawn.event_key], super::fingerprint(&withdrawn));
    let contents = library.contents().await.unwrap();
    assert_eq!(contents.len(), 4);
    for event in [old, corrected, event(1, 4), withdrawn] {
        assert!(contents.contains(&(event.event_key, super::fingerprint(&event))));
    }
}

#[test]
fn a_fingerprint_sees_every_part_of_the_content() {
    let base = event(1, 1);
    let others = [
        EventRef { time: None, ..base },
        EventRef { time: Some(0), ..base },
        EventRef { code: "SNOMED//38341004", ..base },
        EventRef { numeric_value: Some(0.0), ..base },
        EventRef { numeric_value: Some(-0.0), ..base },
        EventRef { text_value: None, ..base },
        EventRef { text_value: Some(""), ..base },
        EventRef { unit: Some("/min"), ..base },
        EventRef { encounter_id: None, ..base },
        EventRef { op: Op::Retract, ..base },
        EventRef { text_value: Some(""), unit: base.text_value, ..base },
    ];
    let mut prints: Vec<u64> = others.iter().chain([&base]).map(super::fingerprint).collect();
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), others.len() + 1);
}

/// A library as the first version made it, without the column `implausible`.
#[tokio::test(flavor = "multi_thread")]
async fn a_library_of_the_first_version_gets_its_new_column() {
    let (_folder, url) = temporary();
    let old: Vec<EventRef<'_>> = (0..20).map(|n| EventRef { implausible: false, ..event(1, n) }).collect();
    let rows = with_position(&batch(&old), 0, 0).unwrap();
    let stored = super::convert::stored_schema(&Table::Events.schema());
    let first: Vec<usize> = (0..stored.fields().len()).filter(|i| stored.field(*i).name() != "implausible").collect();
    let rows = super::convert::conform(&rows, &stored, Table::Events).unwrap().project(&first).unwrap();
    let table = url.join("events/").unwrap();
    std::fs::create_dir_all(table.to_file_path().unwrap()).unwrap();
    let delta = deltalake::DeltaTable::try_from_url(table).await.unwrap();
    delta.write(vec![rows]).with_partition_columns(["partition"]).await.unwrap();

    for _ in 0..2 {
        let library = Library::open(&url).await.unwrap();
        let read = whole(&library, 0).await;
        let view = EventsView::new(&read).unwrap();
        assert_eq!((0..view.len()).map(|i| view.row(i)).collect::<Vec<_>>(), old);
    }
    let library = Library::open(&url).await.unwrap();
    let new: Vec<EventRef<'_>> = (20..40).map(|n| event(1, n)).collect();
    let rows = with_position(&batch(&new), 0, 1).unwrap();
    library.append(Table::Events, vec![rows], &BTreeMap::from([(0, 1)])).await.unwrap();
    let read = whole(&library, 0).await;
    let view = EventsView::new(&read).unwrap();
    assert_eq!((20..40).map(|i| view.row(i)).collect::<Vec<_>>(), new);
    assert!(new.iter().any(|event| event.implausible));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_some_subjects_is_the_history_without_the_others() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    for position in 0..40 {
        let events: Vec<_> = (0..3).map(|n| event(position % 5, position * 100 + n)).collect();
        let rows = with_position(&batch(&events), 0, position).unwrap();
        library.append(Table::Events, vec![rows], &[(0, position)].into()).await.unwrap();
        if position == 25 {
            library.compact(Table::Events).await.unwrap();
        }
    }
    let mut some = library.history_of(0, vec![SubjectId(4), SubjectId(1)]).await.unwrap();
    let mut found = Vec::new();
    while let Some(batch) = some.next().await.unwrap() {
        let (positions, rows) = super::addresses(&batch).unwrap();
        let view = EventsView::new(&batch).unwrap();
        for i in 0..view.len() {
            found.push((view.row(i).subject.unwrap().0, positions[i], rows[i]));
        }
    }
    let expected: Vec<_> = (0..40)
        .filter(|position| [1, 4].contains(&(position % 5)))
        .flat_map(|position| (0..3).map(move |row| (position % 5, position, row)))
        .collect();
    assert_eq!(found, expected);
    assert!(library.history_of(0, vec![SubjectId(9)]).await.unwrap().next().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_of_some_columns_has_what_links_ask_for_from_the_first_link_on() {
    // More rows than a batch has; the link stands in the second, behind other rows of its message.
    const ROWS: i64 = 6000;
    const LINK: usize = 9000;
    let messages: Vec<RecordBatch> = (0..3)
        .map(|position| {
            let mut events: Vec<_> = (0..ROWS).map(|n| event(n % 7, position * ROWS + n)).collect();
            if position == 1 {
                events[LINK - ROWS as usize] = EventRef { code: JOIN, text_value: Some("2 1 2"), ..event(0, -1) };
            }
            with_position(&batch(&events), 0, position).unwrap()
        })
        .collect();
    for at_once in [3, 1] {
        let (_folder, url) = temporary();
        let library = Library::open(&url).await.unwrap();
        for (rows, last) in messages.chunks(at_once).zip((at_once as i64 - 1..).step_by(at_once)) {
            library.append(Table::Events, rows.to_vec(), &[(0, last)].into()).await.unwrap();
        }
        for subjects in [None, Some(vec![SubjectId(0), SubjectId(5)])] {
            let history = async || match &subjects {
                Some(subjects) => library.history_of(0, subjects.clone()).await.unwrap(),
                None => library.history(0).await.unwrap(),
            };
            let (mut all, mut some) = (history().await, history().await.reading(&["subject_id", "time", "unit"]));
            let (mut expected, mut found) = (Vec::new(), Vec::new());
            while let Some(batch) = all.next().await.unwrap() {
                expected.push(batch);
            }
            while let Some(batch) = some.next().await.unwrap() {
                SomeEvents::new(&batch).unwrap();
                assert!(batch.column_by_name("concept").is_none());
                found.push(batch);
            }
            let column = |batches: &[RecordBatch], name: &str| {
                let plain = |batch: &RecordBatch| match name {
                    "code" | "op" => cast(&batch[name], &DataType::Utf8).unwrap(),
                    _ => ArrayRef::clone(&batch[name]),
                };
                let columns: Vec<ArrayRef> = batches.iter().map(plain).collect();
                let columns: Vec<&dyn Array> = columns.iter().map(|column| column.as_ref()).collect();
                concat(&columns).unwrap()
            };
            for name in ["subject_id", "time", "unit", "code", "op", "position", "row"] {
                assert_eq!(&column(&found, name), &column(&expected, name), "{name}");
            }
            let codes = column(&found, "code");
            let link = codes.as_string::<i32>().iter().position(|code| code == Some(JOIN)).unwrap();
            let rest = found.iter().position(|batch| batch.column_by_name("source").is_some()).unwrap();
            let rest = &found[rest..];
            let before = codes.len() - rest.iter().map(RecordBatch::num_rows).sum::<usize>();
            // Of all subjects; the rows of some are so few that the link is in their first batch.
            assert!(before <= link && (before > 0 || subjects.is_some()));
            for name in ["text_value", "source"] {
                let expected = column(&expected, name);
                assert_eq!(&column(rest, name), &expected.slice(before, expected.len() - before), "{name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_file_that_is_certain_to_be_in_order_is_read_as_it_lies() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    library.append_history(vec![batch(&(0..40).map(|n| event(n % 3, n)).collect::<Vec<_>>())], 1).await.unwrap();
    let append = async |at: i64| {
        let rows = vec![message(0, at, 3), message(1, at, 1)];
        library.append(Table::Events, rows, &[(0, at), (1, at)].into()).await.unwrap();
    };
    for at in 0..10 {
        append(at).await;
    }
    library.compact(Table::Events).await.unwrap();
    append(10).await;
    let schema = Table::Events.schema();
    let opened = async || library.open_table(Table::Events).await.unwrap().unwrap();
    let delta = opened().await;
    let files = super::table::data_files(&delta, Table::Events).unwrap();
    assert_eq!(files.len(), 4, "of each partition what was compacted, and the last row");
    let mut read = 0;
    for file in &files {
        let rows = Ordered::open(&delta, file).await.unwrap().unwrap().rows(&schema, 7).unwrap().unwrap();
        read += rows.map(|batch| batch.unwrap().num_rows()).collect::<Vec<_>>().await.iter().sum::<usize>();
    }
    assert_eq!(read as u64, library.rows(Table::Events).await.unwrap());

    let doubtful = async |delta: &DeltaTable, file: DataFile| Ordered::open(delta, &file).await.unwrap().is_none();
    assert!(doubtful(&delta, DataFile { has_deletions: true, ..files[0].clone() }).await);
    assert!(doubtful(&delta, DataFile { path: "a%20b.parquet".to_owned(), ..files[0].clone() }).await);
    assert!(doubtful(&delta, DataFile { partition: None, ..files[0].clone() }).await);
    let newer = Schema::new(vec![Field::new("newer", DataType::Int32, true)]);
    assert!(Ordered::open(&delta, &files[0]).await.unwrap().unwrap().rows(&newer, 7).unwrap().is_none());
    // Another tool's rewrite does not say so.
    let before = whole(&library, 0).await;
    delta.optimize().await.unwrap();
    let delta = opened().await;
    for file in super::table::data_files(&delta, Table::Events).unwrap() {
        assert!(doubtful(&delta, file).await);
    }
    assert_eq!(whole(&library, 0).await, before);
}
