//! Export and import against the rules of MEDS and against each other.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampSecondArray};
use arrow::datatypes::{DataType, Float32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::tests::{batch, event, temporary};
use super::super::{Library, LibraryError, Table, with_position};
use super::{Exported, export_meds, read_meds};
use crate::events::{EventRef, EventsView, JOIN, LEAVE, Op, SubjectId, TICK, TOKEN, split_of};

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn table(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

fn ints(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn seconds(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(TimestampSecondArray::from(values.to_vec()).with_timezone("+02:00"))
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[test]
fn a_file_with_few_columns_is_read_and_equal_rows_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.parquet");
    let subjects = [Some(7), Some(7), Some(7), Some(7), None, Some(9), Some(9)];
    let times = [None, Some(20), Some(10), Some(10), Some(1), None, None];
    let codes = [Some("GENDER//F"), Some("A"), Some("B"), Some("B"), Some("C"), Some("D"), None];
    let values = Float64Array::from(vec![None, Some(1.5), Some(2.5), Some(2.5), None, Some(f64::NAN), None]);
    let columns = |values: &Float64Array| {
        vec![
            ("subject_id", ints(&subjects)),
            ("time", seconds(&times)),
            ("code", texts(&codes)),
            ("value", Arc::new(values.clone()) as ArrayRef),
            ("table", texts(&[Some("lab"); 7])),
        ]
    };
    write(&path, columns(&values));
    let mut reader = read_meds(&path).unwrap();
    let events = reader.next().unwrap().unwrap();
    assert!(reader.next().is_none());
    assert_eq!((reader.rows(), reader.refused()), (7, &BTreeMap::from([("subject_id", 1), ("code", 1)])));
    let view = EventsView::new(&events).unwrap();
    let rows: Vec<_> = (0..view.len()).map(|i| view.row(i)).collect();
    let second = 1_000_000;
    let when: Vec<_> = rows.iter().map(|row| (row.time, row.recorded_at)).collect();
    // A static row became known at the subject's earliest time, or at 0 where there is none.
    assert_eq!(
        when,
        [
            (None, 10 * second),
            (Some(20 * second), 20 * second),
            (Some(10 * second), 10 * second),
            (Some(10 * second), 10 * second),
            (None, 0)
        ]
    );
    assert_eq!(
        rows.iter().map(|row| row.numeric_value).collect::<Vec<_>>(),
        [None, Some(1.5), Some(2.5), Some(2.5), None]
    );
    assert_eq!((rows[3].source, rows[3].subject), ("events.parquet#3", Some(SubjectId(7))));
    let keys: HashSet<_> = rows.iter().map(|row| row.event_key).collect();
    assert_eq!(keys.len(), 5);

    // Under another name and with one more of the equal rows, all the old keys are there.
    let copy = folder.path().join("copy.parquet");
    let three =
        vec![("subject_id", ints(&[Some(7); 3])), ("time", seconds(&[Some(10); 3])), ("code", texts(&[Some("B"); 3]))];
    let mut with_value = three.clone();
    with_value.push(("numeric_value", Arc::new(Float64Array::from(vec![2.5; 3]))));
    write(&copy, with_value);
    let again = read_meds(&copy).unwrap().next().unwrap().unwrap();
    let view = EventsView::new(&again).unwrap();
    let new: Vec<_> = (0..3).map(|i| keys.contains(&view.row(i).event_key)).collect();
    assert_eq!(new, [true, true, false]);
    write(&copy, three);
    let without = read_meds(&copy).unwrap().next().unwrap().unwrap();
    assert!(!keys.contains(&EventsView::new(&without).unwrap().row(0).event_key));
}

#[test]
fn what_is_no_meds_data_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let reason = |path: &Path| match read_meds(path).map(|mut reader| reader.next()) {
        Err(LibraryError::Meds { reason, .. }) | Ok(Some(Err(LibraryError::Meds { reason, .. }))) => reason,
        other => panic!("{other:?}"),
    };
    assert!(matches!(read_meds(&path), Err(LibraryError::Io { .. })));
    assert!(reason(folder.path()).contains("no .parquet file"));
    std::fs::write(&path, b"PAR1 but not really").unwrap();
    assert!(reason(&path).contains("no parquet file"));
    write(
        &path,
        vec![("subject_id", ints(&[Some(1)])), ("time", texts(&[Some("2020-01-01")])), ("code", texts(&[Some("A")]))],
    );
    assert!(reason(&path).contains("'time'"));
    let apart = |ids: &[Option<i64>]| {
        let n = ids.len();
        vec![("subject_id", ints(ids)), ("time", seconds(&vec![Some(1); n])), ("code", texts(&vec![Some("A"); n]))]
    };
    write(&path, apart(&[Some(1), Some(2), Some(1)]));
    assert!(reason(&path).contains("comes again in row 2"));
    // A subject in two files of a data set breaks the other rule.
    std::fs::create_dir_all(folder.path().join("set/data/train")).unwrap();
    std::fs::create_dir_all(folder.path().join("set/data/tuning")).unwrap();
    write(&folder.path().join("set/data/train/0.parquet"), apart(&[Some(1), Some(2)]));
    write(&folder.path().join("set/data/tuning/0.parquet"), apart(&[Some(2)]));
    let mut reader = read_meds(&folder.path().join("set")).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().num_rows(), 2);
    assert!(matches!(reader.next(), Some(Err(LibraryError::Meds { .. }))));
    assert!(reader.next().is_none());
}

/// A library with corrections, retractions, redeliveries, a tick and a sealed identifier.
async fn filled(library: &Library) -> Vec<EventRef<'static>> {
    let mut facts: Vec<EventRef<'static>> = (0..200).map(|n| event(n % 40, n)).collect();
    library.append_history(vec![batch(&facts)], 2).await.unwrap();
    let corrected = EventRef { text_value: Some("corrected"), recorded_at: 1 << 40, ..facts[11] };
    let back = EventRef { recorded_at: 1 << 41, ..facts[8] };
    let live = [
        EventRef { recorded_at: 1 << 40, ..facts[4] },
        corrected,
        EventRef { op: Op::Retract, ..facts[6] },
        EventRef { op: Op::Retract, ..facts[8] },
        back,
        EventRef { subject: None, code: TICK, ..event(0, 900) },
        EventRef { code: TOKEN, ..event(0, 901) },
    ];
    for (at, partition) in [(0_i64, 0_u32), (1, 1)] {
        let of: Vec<_> =
            live.iter().filter(|e| e.subject.is_none_or(|s| s.0 as u32 % 2 == partition)).copied().collect();
        let rows = vec![with_position(&batch(&of), partition, at).unwrap()];
        library.append(Table::Events, rows, &BTreeMap::from([(partition, at)])).await.unwrap();
    }
    facts[4].recorded_at = 1 << 40;
    facts[8] = back;
    facts[11] = corrected;
    facts.remove(6);
    facts
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_a_meds_data_set_of_what_holds() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    let mut facts = filled(&library).await;
    let target = tempfile::tempdir().unwrap();
    let dir = target.path().join("meds");
    let mut read = 0;
    let exported = export_meds(&library, &dir, &mut |rows| read = rows).await.unwrap();
    assert_eq!((exported, read), (Exported { subjects: 40, events: 199 }, 200 + 5 + 1 + 2));

    let mut rows = Vec::new();
    let mut home = BTreeMap::new();
    for split in ["train", "tuning", "held_out"] {
        for file in 0..2 {
            let path = dir.join(format!("data/{split}/{file}.parquet"));
            if !path.exists() {
                continue;
            }
            let table = table(&path);
            let kinds: Vec<_> =
                table.schema().fields().iter().take(5).map(|f| (f.name().clone(), f.data_type().clone())).collect();
            let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
            let should = [
                ("subject_id", DataType::Int64),
                ("time", micros),
                ("code", DataType::Utf8),
                ("numeric_value", DataType::Float32),
                ("text_value", DataType::LargeUtf8),
            ];
            assert_eq!(kinds, should.map(|(name, kind)| (name.to_owned(), kind)));
            let subjects = table["subject_id"].as_primitive::<Int64Type>();
            let times = table["time"].as_primitive::<TimestampMicrosecondType>();
            let order: Vec<_> = subjects.values().iter().copied().zip(times.iter()).collect();
            assert!(order.is_sorted(), "contiguous subjects, static rows first");
            for (i, &(subject, time)) in order.iter().enumerate() {
                let numeric = table["numeric_value"].as_primitive::<Float32Type>();
                let text = table["text_value"].as_string::<i64>();
                rows.push((
                    subject,
                    time,
                    numeric.iter().nth(i).unwrap(),
                    text.iter().nth(i).unwrap().map(str::to_owned),
                ));
                assert_eq!(home.entry(subject).or_insert((split, file)), &(split, file));
                assert_eq!(split_of(SubjectId(subject)).as_str(), split);
            }
        }
    }
    let key = |r: &(i64, Option<i64>, Option<f32>, Option<String>)| (r.0, r.1, r.2.map(f32::to_bits), r.3.clone());
    let mut should: Vec<_> = facts
        .iter()
        .map(|e| (e.subject.unwrap().0, e.time, e.numeric_value, e.text_value.map(str::to_owned)))
        .collect();
    should.sort_by_key(key);
    rows.sort_by_key(key);
    assert_eq!(rows, should);

    let codes = table(&dir.join("metadata/codes.parquet"));
    assert_eq!(
        codes["code"].as_string::<i32>().iter().flatten().collect::<Vec<_>>(),
        ["LOINC//8867-4", "SNOMED//38341003"]
    );
    let splits = table(&dir.join("metadata/subject_splits.parquet"));
    assert_eq!((splits.num_columns(), splits.num_rows()), (2, 40));
    let dataset: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("metadata/dataset.json")).unwrap()).unwrap();
    assert_eq!(dataset["meds_version"], "0.4.0");

    // Read again: what is exported is what is there, with its own columns kept.
    let again: Vec<_> = read_meds(&dir).unwrap().map(Result::unwrap).collect();
    let mut back = Vec::new();
    for batch in &again {
        let view = EventsView::new(batch).unwrap();
        back.extend(
            (0..view.len())
                .map(|i| view.row(i))
                .map(|e| (e.subject, e.time, e.code, e.recorded_at, e.unit, e.concept, e.implausible, e.encounter_id))
                .map(|e| format!("{e:?}")),
        );
    }
    let mut should: Vec<_> = facts
        .drain(..)
        .map(|e| (e.subject, e.time, e.code, e.recorded_at, e.unit, e.concept, e.implausible, e.encounter_id))
        .map(|e| format!("{e:?}"))
        .collect();
    back.sort();
    should.sort();
    assert_eq!(back, should);
}

/// The rows of a data set as text, sorted: of the named columns.
fn rows_of(dir: &Path, columns: &[&str]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for file in super::columns::files(dir).unwrap() {
        let table = table(&file);
        let cells: Vec<Vec<String>> = columns
            .iter()
            .map(|name| {
                let column = &table[*name];
                (0..table.num_rows()).map(|i| arrow::util::display::array_value_to_string(column, i).unwrap()).collect()
            })
            .collect();
        rows.extend((0..table.num_rows()).map(|i| cells.iter().map(|column| column[i].clone()).collect::<Vec<_>>()));
    }
    rows.sort();
    rows
}

/// In, out, in again and out again: the same rows, with columns that the event schema does not have.
#[tokio::test(flavor = "multi_thread")]
async fn extra_columns_survive_with_their_types() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.parquet");
    let subjects: Vec<Option<i64>> = [1, 1, 1, 2, 2, 3].map(Some).to_vec();
    let stays: ArrayRef =
        Arc::new(arrow::array::Int32Array::from(vec![None, Some(-4), Some(i32::MAX), None, Some(0), None]));
    let shares: ArrayRef =
        Arc::new(Float64Array::from(vec![Some(0.1), Some(2.0), None, Some(f64::NAN), None, Some(1e300)]));
    let flags: ArrayRef =
        Arc::new(arrow::array::BooleanArray::from(vec![Some(true), None, Some(false), None, None, None]));
    let lists = arrow::array::ListArray::from_iter_primitive::<Int64Type, _, _>((0..6).map(|i| Some([Some(i)])));
    write(
        &path,
        vec![
            ("subject_id", ints(&subjects)),
            ("time", seconds(&[None, Some(10), Some(10), Some(5), None, Some(7)])),
            ("code", texts(&[Some("A"), Some("B"), Some("B"), Some("C"), Some("D"), Some("A")])),
            ("table", texts(&[Some("say \"so\""), Some("lab"), None, Some("lab"), Some("müde\n"), Some("")])),
            ("stay", stays),
            ("share", shares),
            ("flag", flags),
            ("stored", seconds(&[None, Some(1), None, None, None, None])),
            ("concept", Arc::new(Float64Array::from(vec![1.0; 6])) as ArrayRef),
            ("parts", Arc::new(lists) as ArrayRef),
        ],
    );
    let mut dirs = vec![path.clone()];
    for turn in 0..2 {
        let (_library, url) = temporary();
        let library = Library::open(&url).await.unwrap();
        let mut reader = read_meds(dirs.last().unwrap()).unwrap();
        let rows: Vec<_> = reader.by_ref().map(Result::unwrap).collect();
        let unkept: &[&str] = if turn == 0 { &["concept", "parts"] } else { &[] };
        assert_eq!(reader.unkept().iter().map(String::as_str).collect::<Vec<_>>(), unkept);
        assert_eq!(library.append_history(rows, 3).await.unwrap(), 6);
        let dir = folder.path().join(format!("export{turn}"));
        assert_eq!(export_meds(&library, &dir, &mut |_| {}).await.unwrap(), Exported { subjects: 3, events: 6 });
        let first = table(&super::columns::files(&dir).unwrap()[0]);
        let kinds = ["table", "stay", "share", "flag", "stored"].map(|name| first[name].data_type().clone());
        let text = DataType::Utf8;
        assert_eq!(kinds, [text.clone(), DataType::Int64, DataType::Float64, DataType::Boolean, text]);
        let dataset = std::fs::read_to_string(dir.join("metadata/dataset.json")).unwrap();
        assert!(dataset.contains("\"stay\"") && dataset.contains("\"unit\""), "{dataset}");
        dirs.push(dir);
    }
    let given = rows_of(&dirs[0], &["subject_id", "code", "table", "stay", "share", "flag"]);
    let mut should = given.clone();
    for row in &mut should {
        // What is not finite is no value.
        row[4] = row[4].replace("NaN", "");
    }
    should.sort();
    assert_eq!(rows_of(&dirs[1], &["subject_id", "code", "table", "stay", "share", "flag"]), should);
    let all =
        ["subject_id", "time", "code", "table", "stay", "share", "flag", "stored", "recorded_at", "numeric_value"];
    assert_eq!(rows_of(&dirs[1], &all), rows_of(&dirs[2], &all));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_replaces_only_an_export() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let nothing = &mut |_| {};
    // An empty library is an empty data set.
    assert_eq!(export_meds(&library, target.path(), nothing).await.unwrap(), Exported::default());
    library.append_history(vec![batch(&[event(1, 1)])], 1).await.unwrap();
    assert_eq!(export_meds(&library, target.path(), nothing).await.unwrap(), Exported { subjects: 1, events: 1 });
    assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 2);
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("thesis.txt"), "mine").unwrap();
    assert!(matches!(export_meds(&library, other.path(), nothing).await, Err(LibraryError::Target(_))));
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mimic_demo_goes_in_and_out_whole() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/meds/mimic_iv_demo_meds_events.parquet"));
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return;
    }
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    let mut reader = read_meds(path).unwrap();
    let started = std::time::Instant::now();
    let rows: Vec<_> = reader.by_ref().map(Result::unwrap).collect();
    println!("read {} rows in {:?}", reader.rows(), started.elapsed());
    assert_eq!((reader.rows(), reader.refused().len()), (916_166, 0));
    let started = std::time::Instant::now();
    assert_eq!(library.append_history(rows, 4).await.unwrap(), 916_166);
    println!("imported in {:?}", started.elapsed());
    let started = std::time::Instant::now();
    let known = library.known().await.unwrap();
    println!("known in {:?}", started.elapsed());
    assert_eq!(known.len(), 916_166);
    for batch in read_meds(path).unwrap().take(3) {
        let batch = batch.unwrap();
        let view = EventsView::new(&batch).unwrap();
        for i in 0..view.len() {
            assert_eq!(known.get(&view.row(i).event_key), Some(&super::super::fingerprint(&view.row(i))));
        }
    }
    let started = std::time::Instant::now();
    let mut rows = 0;
    for partition in library.partitions().await.unwrap() {
        let mut history = library.history(partition).await.unwrap();
        while let Some(batch) = history.next().await.unwrap() {
            rows += batch.num_rows();
        }
    }
    println!("replayed {rows} rows in {:?}", started.elapsed());
    let target = tempfile::tempdir().unwrap();
    let started = std::time::Instant::now();
    let exported = export_meds(&library, target.path(), &mut |_| {}).await.unwrap();
    println!("exported in {:?}", started.elapsed());
    assert_eq!(exported, Exported { subjects: 100, events: 916_166 });
    // The same set of rows: each has a key of what it says and how often that was said before.
    let mut back = HashSet::new();
    for batch in read_meds(target.path()).unwrap() {
        let batch = batch.unwrap();
        let view = EventsView::new(&batch).unwrap();
        for event in (0..view.len()).map(|i| view.row(i)) {
            assert_eq!(known.get(&event.event_key), Some(&super::super::fingerprint(&event)));
            assert!(back.insert(event.event_key));
        }
    }
    assert_eq!(back.len(), known.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_both_histories_under_the_subject_that_survives_a_merge() {
    let (_folder, url) = temporary();
    let library = Library::open(&url).await.unwrap();
    let row = |subject, n, source| EventRef { source, ..event(subject, n) };
    let told = |subject, code, text| EventRef { code, text_value: Some(text), ..event(subject, 99) };
    // 4 and 7 are in different partitions; 7 is merged into 4. What 7 is told later is moved late.
    let prior = batch(&[row(7, 1, "a"), row(7, 2, "b"), told(7, LEAVE, "4 1 7"), row(7, 3, "straggler")]);
    let moved = |n, source| EventRef { subject: Some(SubjectId(4)), source, ..event(7, n) };
    let kept = batch(&[
        row(4, 1, "c"),
        told(4, JOIN, "7 1 7"),
        moved(1, "a@7~0.0.0"),
        moved(2, "b@7~0.0.0"),
        moved(3, "straggler@7~0.0.0"),
    ]);
    for (partition, rows) in [(0, kept.clone()), (1, prior)] {
        let rows = with_position(&rows, partition, 0).unwrap();
        library.append(Table::Events, vec![rows], &[(partition, 0)].into()).await.unwrap();
    }
    let subjects = |exported: &Path| {
        let folder = exported.join("data").join(split_of(SubjectId(4)).as_str());
        let rows = table(&folder.join("0.parquet"));
        let mut sources: Vec<_> = rows["source"].as_string::<i32>().iter().flatten().map(str::to_owned).collect();
        sources.sort();
        sources
    };
    let target = tempfile::tempdir().unwrap();
    let exported = export_meds(&library, target.path(), &mut |_| {}).await.unwrap();
    assert_eq!(exported, Exported { subjects: 1, events: 4 });
    assert_eq!(subjects(target.path()), ["a@7~0.0.0", "b@7~0.0.0", "c", "straggler@7~0.0.0"]);
    // Undone: 4 has its own again, and 7 what is moved back.
    for (partition, rows) in [
        (0, batch(&[told(4, LEAVE, "7 2 7")])),
        (1, batch(&[told(7, JOIN, "4 2 7"), row(7, 1, "a~0.0.0"), row(7, 2, "b~0.0.0"), row(7, 3, "straggler~0.0.0")])),
    ] {
        let rows = with_position(&rows, partition, 1).unwrap();
        library.append(Table::Events, vec![rows], &[(partition, 1)].into()).await.unwrap();
    }
    let exported = export_meds(&library, target.path(), &mut |_| {}).await.unwrap();
    assert_eq!(exported, Exported { subjects: 2, events: 4 });
}
