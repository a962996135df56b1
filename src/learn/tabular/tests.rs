//! Every cell against a computation from scratch, and the demo of MIMIC-IV against MEDS-Tab's figures.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::npz::tests::{Matrix, read};
use super::shard::count;
use super::*;
use crate::events::{DAY, HOUR, Micros};

/// An event of a test: time, code, value.
type Told = (Option<Micros>, usize, Option<f32>);

const CODES: [&str; 6] = ["LAB//1", "LAB//2", "A", "A//B", "Z", "é"];

fn tabular(min_count: u64) -> Tabular {
    let windows = ["1d", "36h", "1w", "1s", "full"].map(|name| name.parse().unwrap()).to_vec();
    let aggregates = ["value/sum", "code/count", "value/count", "value/min", "value/max", "value/sum_sqd"];
    Tabular { windows, aggregates: aggregates.map(|name| name.parse().unwrap()).to_vec(), min_count }
}

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Writes subjects with their ids as a MEDS file.
fn write_meds(path: &Path, subjects: &[(i64, Vec<Told>)]) {
    let rows: Vec<(i64, Told)> =
        subjects.iter().flat_map(|(subject, told)| told.iter().map(|told| (*subject, *told))).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("subject_id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)))),
        ("time", Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.1.0)))),
        ("code", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| CODES[row.1.1])))),
        ("numeric_value", Arc::new(Float32Array::from_iter(rows.iter().map(|row| row.1.2)))),
    ];
    write(path, columns);
}

fn table(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// A matrix computed cell by cell from all of a subject's events; nothing here slides.
fn naive(subjects: &[(i64, Vec<Told>)], window: &str, aggregate: &str, min_count: usize) -> Matrix {
    let dated = || subjects.iter().flat_map(|(_, told)| told).filter(|told| told.0.is_some());
    let valued = |told: &Told| told.2.is_some_and(f32::is_finite);
    let events = |code: usize| dated().filter(|told| told.1 == code).count();
    let values = |code: usize| dated().filter(|told| told.1 == code && valued(told)).count();
    let of_codes = aggregate.starts_with("code");
    let mut columns: Vec<usize> =
        (0..CODES.len()).filter(|&code| if of_codes { events(code) > 0 } else { values(code) > 0 }).collect();
    columns.sort_by_key(|&code| CODES[code]);
    let length = match window {
        "full" => i128::MAX,
        "1d" => i128::from(DAY),
        "36h" => i128::from(36 * HOUR),
        "1w" => i128::from(7 * DAY),
        "1s" => 1_000_000,
        _ => panic!("{window}"),
    };
    let mut matrix = Matrix { shape: (0, columns.len()), indptr: vec![0], indices: vec![], data: vec![] };
    for (_, told) in subjects {
        let kept: Vec<&Told> = told.iter().filter(|told| events(told.1) >= min_count).collect();
        let mut times: Vec<Micros> = kept.iter().filter_map(|told| told.0).collect();
        times.sort();
        times.dedup();
        for row in times {
            for (column, &code) in columns.iter().enumerate() {
                let inside = |told: &&&Told| {
                    told.1 == code && told.0.is_some_and(|t| t <= row && i128::from(row) - i128::from(t) < length)
                };
                let all = kept.iter().filter(inside).count();
                let counts = |told: &&&Told| inside(told) && valued(told) && values(code) >= min_count;
                let numbers: Vec<f64> = kept.iter().filter(counts).filter_map(|told| told.2.map(f64::from)).collect();
                let cell = match aggregate {
                    "code/count" => (all > 0).then_some(all as f64),
                    _ if numbers.is_empty() => None,
                    "value/count" => Some(numbers.len() as f64),
                    "value/sum" => Some(numbers.iter().sum()),
                    "value/sum_sqd" => Some(numbers.iter().map(|number| number * number).sum()),
                    "value/min" => numbers.iter().copied().reduce(f64::min),
                    "value/max" => numbers.iter().copied().reduce(f64::max),
                    _ => panic!("{aggregate}"),
                };
                if let Some(cell) = cell {
                    matrix.indices.push(column as i32);
                    matrix.data.push(cell as f32);
                }
            }
            matrix.shape.0 += 1;
            matrix.indptr.push(matrix.indices.len() as i64);
        }
    }
    matrix
}

/// Times at which windows begin and end, few enough that many events share one.
fn time() -> impl Strategy<Value = Option<Micros>> {
    prop_oneof![
        12 => (0..60_i64).prop_map(|step| Some(step * 6 * HOUR)),
        2 => (0..40_i64).prop_map(|step| Some(step * DAY + 1)),
        1 => Just(None),
        1 => prop_oneof![Just(Some(Micros::MIN)), Just(Some(Micros::MAX))],
    ]
}

/// Numbers whose sums are exact in float64 in any order; one is so large that a sum it was taken from
/// would have lost the others.
fn value() -> impl Strategy<Value = Option<f32>> {
    prop_oneof![
        3 => Just(None),
        8 => (-400..400_i16).prop_map(|number| Some(f32::from(number) / 4.0)),
        1 => Just(Some(0.0)),
        1 => Just(Some(2_f32.powi(100))),
        1 => prop_oneof![Just(Some(f32::NAN)), Just(Some(f32::INFINITY))],
    ]
}

fn subjects() -> impl Strategy<Value = Vec<(i64, Vec<Told>)>> {
    let told = prop::collection::vec((time(), 0..CODES.len(), value()), 1..60);
    prop::collection::vec(told, 1..5).prop_map(|subjects| {
        // The order of the file is kept, not that of the ids.
        (0..).zip(subjects).map(|(i, told)| (100 - 7 * i, told)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_cell_is_that_of_a_computation_from_scratch(subjects in subjects(), min_count in 0_u64..12) {
        let folder = tempfile::tempdir().unwrap();
        let (file, out) = (folder.path().join("some.parquet"), folder.path().join("out"));
        write_meds(&file, &subjects);
        let tabular = tabular(min_count);
        let report = tabularize_meds(&file, &tabular, &out).unwrap();
        let (mut stored, mut bytes) = (0, 0);
        for window in &tabular.windows {
            for aggregate in &tabular.aggregates {
                let path = out.join(format!("some/{}/{}.npz", window.name(), aggregate.as_str()));
                let (have, want) = (read(&path), naive(&subjects, window.name(), aggregate.as_str(), min_count as usize));
                prop_assert_eq!(&have, &want, "{} {}", window.name(), aggregate.as_str());
                stored += have.data.len() as u64;
                bytes += path.metadata().unwrap().len();
                prop_assert_eq!(report.rows, have.shape.0 as u64);
                let columns = if aggregate.is_of_codes() { report.codes } else { report.value_codes };
                prop_assert_eq!(columns, have.shape.1 as u64);
            }
        }
        prop_assert_eq!((report.stored, report.bytes), (stored, bytes));
    }
}

#[test]
fn rows_and_columns_have_names() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("some.parquet"), folder.path().join("out"));
    let told = vec![
        (None, 0, Some(1.0)),
        (Some(9), 2, None),
        (Some(5), 1, Some(2.0)),
        (Some(5), 2, Some(3.0)),
        (Some(7), 3, None),
    ];
    write_meds(&file, &[(8, told), (3, vec![(Some(4), 1, None), (Some(1), 4, Some(0.0))])]);
    tabularize_meds(&file, &tabular(2), &out).unwrap();
    let rows = table(&out.join("some/rows.parquet"));
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[8, 8, 3]);
    assert_eq!(rows.column(1).as_primitive::<TimestampMicrosecondType>().values(), &[5, 9, 4]);
    let columns = table(&out.join("codes.parquet"));
    let names: Vec<&str> = columns.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
    let expected =
        ["column", "code", "code/n_occurrences", "kept", "value_column", "values/n_occurrences", "values_kept"];
    assert_eq!(names, expected);
    let ints = |i: usize| columns.column(i).as_primitive::<Int32Type>().iter().collect::<Vec<_>>();
    let longs = |i: usize| columns.column(i).as_primitive::<Int64Type>().values().to_vec();
    let marks = |i: usize| columns.column(i).as_boolean().iter().flatten().collect::<Vec<_>>();
    assert_eq!(ints(0), [Some(0), Some(1), Some(2), Some(3)]);
    assert_eq!(columns.column(1).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["A", "A//B", "LAB//2", "Z"]);
    assert_eq!((longs(2), marks(3)), (vec![2, 1, 2, 1], vec![true, false, true, false]));
    assert_eq!(ints(4), [Some(0), None, Some(1), Some(2)]);
    assert_eq!((longs(5), marks(6)), (vec![1, 0, 1, 1], vec![false; 4]));
}

#[test]
fn a_data_set_is_written_shard_by_shard() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path().join("root"), folder.path().join("out"));
    let shards = [
        ("train/0", vec![(1, vec![(Some(5), 0, Some(2.0)), (Some(6), 0, None)])]),
        ("held_out/0", vec![(2, vec![(Some(7), 1, None)])]),
    ];
    for (name, subjects) in &shards {
        std::fs::create_dir_all(root.join("data").join(name).parent().unwrap()).unwrap();
        write_meds(&root.join(format!("data/{name}.parquet")), subjects);
    }
    let report = tabularize_meds(&root, &tabular(1), &out).unwrap();
    assert_eq!((report.rows, report.codes, report.value_codes), (3, 2, 1));
    let matrix = read(&out.join("train/0/full/code/count.npz"));
    assert_eq!((matrix.shape, matrix.data), ((2, 2), vec![1.0, 2.0]));
    let matrix = read(&out.join("held_out/0/full/value/sum.npz"));
    assert_eq!((matrix.shape, matrix.indptr), ((1, 1), vec![0, 0]));
}

#[test]
fn nothing_is_left_behind_by_a_failure_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("some.parquet"), folder.path().join("out"));
    write_meds(&file, &[(1, vec![(Some(5), 0, None)]), (2, vec![(Some(5), 0, None)]), (1, vec![(Some(6), 0, None)])]);
    let error = tabularize_meds(&file, &tabular(1), &out).unwrap_err().to_string();
    assert!(error.contains("a subject comes again in row 2"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    write_meds(&file, &[(1, vec![(Some(5), 0, None)])]);
    std::fs::create_dir(&out).unwrap();
    tabularize_meds(&file, &tabular(1), &out).unwrap();
    assert!(matches!(tabularize_meds(&file, &tabular(1), &out), Err(LearnError::Target(path)) if path == out));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_shard_that_changes_between_its_readings_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut codes, mut tallies, tabular) = (Codes::default(), Tallies::default(), tabular(1));
    let row = |time| Fact { time: Some(time), code: 0, value: 1.0 };
    codes.number("A", 0);
    tallies.add(&[row(1)]);
    let columns = Columns::new(tallies, &codes, 1);
    type Shard<'a> = &'a [(i64, &'a [Fact])];
    let readings: [[Shard<'_>; 2]; 4] = [
        [&[(1, &[row(1)])], &[(1, &[row(1)]), (2, &[row(1)])]],
        [&[(1, &[row(1)]), (2, &[row(1)])], &[(1, &[row(1)])]],
        [&[(1, &[row(1)])], &[(1, &[row(1), row(2)])]],
        [&[(1, &[row(1), row(2)])], &[(1, &[row(1)])]],
    ];
    for (i, readings) in readings.into_iter().enumerate() {
        let mut reading = readings.iter();
        let written = write_shard(&tabular, &columns, &folder.path().join(i.to_string()), &mut |each| {
            let subjects = reading.next().unwrap();
            subjects.iter().try_for_each(|(subject, rows)| each(SubjectId(*subject), rows))
        });
        assert!(matches!(written, Err(LearnError::ChangedMeanwhile)), "{i}");
    }
}

#[test]
fn windows_are_a_number_and_a_unit() {
    let reaches = |name: &str, back| name.parse::<Window>().unwrap().reaches(10 * DAY, 10 * DAY - back);
    for (name, length) in [("1s", 1_000_000), ("2m", 120_000_000), ("3h", 3 * HOUR), ("7d", 7 * DAY), ("1w", 7 * DAY)] {
        assert!(reaches(name, 0) && reaches(name, length - 1) && !reaches(name, length), "{name}");
    }
    assert!("full".parse::<Window>().unwrap().reaches(Micros::MAX, Micros::MIN));
    for name in ["", "d", "0d", "-1d", "+1d", "1.5d", "1mo", "7", "1é", "../1d", "Full", "99999999999999999999d"] {
        assert!(name.parse::<Window>().is_err(), "{name}");
    }
}

/// How many values the matrices of a window would hold, counted with a map. `lose` does as MEDS-Tab 0.2.0
/// does: it leaves out the last event of every time (`compute_agg` slices `[min_index:max_index]` with the
/// index of that last event as the end), though not the row.
fn stored(history: &history::History, length: Option<Micros>, values: bool, lose: bool) -> u64 {
    let told = |event: &&history::Event| event.value.map_or(!values, |_| true);
    let mut last = vec![false; history.events.len()];
    history.moments.iter().for_each(|moment| last[moment.events - 1] = lose);
    let (mut counts, mut first, mut next, mut stored) = (HashMap::<u32, u32>::new(), 0, 0, 0);
    for moment in &history.moments {
        for (event, last) in history.events.iter().zip(&last).take(moment.events).skip(next) {
            if !last && told(&event) {
                *counts.entry(event.code).or_default() += 1;
            }
        }
        next = moment.events;
        while length.is_some_and(|length| history.events[first].time <= moment.time - length) {
            if !last[first] && told(&&history.events[first]) {
                let code = history.events[first].code;
                match counts.get_mut(&code) {
                    Some(1) => drop(counts.remove(&code)),
                    count => *count.unwrap() -= 1,
                }
            }
            first += 1;
        }
        stored += counts.len() as u64;
    }
    stored
}

/// The demo of MIMIC-IV: MEDS-Tab's rows and columns, and its stored values but for the events it loses.
#[test]
fn the_demo_of_mimic_has_the_rows_columns_and_values_of_meds_tab() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/meds/mimic_iv_demo_meds_events.parquet"));
    if !path.exists() {
        eprintln!("SKIPPED, shared/data/meds/mimic_iv_demo_meds_events.parquet is not beside this checkout");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut codes, mut tallies) = (Codes::default(), Tallies::default());
    let subjects = MedsSubjects::open(path, &[]).unwrap();
    let part = &subjects.parts(1, u64::MAX)[0];
    let read = part.for_each_subject(&mut codes, &mut |_, _, facts| {
        tallies.add(facts);
        Ok::<_, LearnError>(())
    });
    assert_eq!(read.unwrap(), 0);
    let columns = Columns::new(tallies, &codes, 10);
    assert_eq!((columns.codes(), columns.values()), (7_033, 1_170));
    let mut tabular = tabular(10);
    tabular.windows = ["1d", "7d", "full"].map(|name| name.parse().unwrap()).to_vec();
    let (mut ours, mut theirs) = ([(0, 0); 3], [(0, 0); 3]);
    let parts = count(&tabular, &columns, folder.path(), &mut |each| {
        let read = part.for_each_subject(&mut codes, &mut |_, subject, rows| {
            let history = history::History::new(subject, rows, &columns);
            for (i, length) in [Some(DAY), Some(7 * DAY), None].into_iter().enumerate() {
                ours[i].0 += stored(&history, length, false, false);
                ours[i].1 += stored(&history, length, true, false);
                theirs[i].0 += stored(&history, length, false, true);
                theirs[i].1 += stored(&history, length, true, true);
            }
            each(subject, rows)
        });
        read.map(|_| ())
    })
    .unwrap();
    let ends: Vec<shard::Part> = parts.iter().map(|parts| *parts.last().unwrap()).collect();
    assert!(ends.iter().all(|end| (end.codes.rows, end.values.rows) == (81_704, 81_704)));
    assert_eq!(table(&folder.path().join("rows.parquet")).num_rows(), 81_704);
    let counted: Vec<(u64, u64)> = ends.iter().map(|end| (end.codes.stored, end.values.stored)).collect();
    assert_eq!(counted, ours);
    assert_eq!(counted, [(21_344_109, 10_226_753), (33_422_910, 15_285_403), (50_050_936, 20_955_142)]);
    assert_eq!(theirs, [(20_184_014, 9_751_239), (31_248_360, 14_578_886), (46_084_827, 19_964_701)]);
}
