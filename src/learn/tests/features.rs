//! What the library gives back, against what was computed live.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float32Type, Int64Type, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use url::Url;

use crate::events::EventsBuilder;
use crate::features::tests::oracle::{FEATURES, Row, TRIGGERS, log};
use crate::features::tests::{spec, trigger};
use crate::features::{Due, Fold, Trigger};
use crate::learn;
use crate::library::{Library, Table, with_position};

/// A prediction: task, subject, time, and the bits of its features, those of what is missing alike.
type Made = (String, i64, i64, Vec<Option<u32>>);

fn tasks() -> Vec<(String, Trigger)> {
    TRIGGERS.iter().enumerate().map(|(i, text)| (format!("task_{i}"), trigger(text))).collect()
}

/// What fell due in one live pass.
fn live(rows: &[Row]) -> Vec<Made> {
    let spec = spec(FEATURES);
    let mut fold = Fold::new(spec, tasks().into_iter().map(|(_, trigger)| trigger).collect());
    let mut due = Due::new();
    for row in rows {
        fold.apply(&row.event(), Some(&mut due));
    }
    let made = |i: usize| {
        let row = &due.rows[i];
        let bits = due.row(i).iter().map(|value| (!value.is_nan()).then_some(value.to_bits()));
        (format!("task_{}", row.trigger), row.subject.0, row.time, bits.collect())
    };
    (0..due.rows.len()).map(made).collect()
}

fn read(path: &Path) -> Vec<Made> {
    let file = std::fs::File::open(path).unwrap();
    let mut all = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let subjects = batch["subject_id"].as_primitive::<Int64Type>();
        let times = batch["prediction_time"].as_primitive::<TimestampMicrosecondType>();
        let tasks = batch["task"].as_string::<i32>();
        for i in 0..batch.num_rows() {
            let features = batch.columns()[3..].iter().map(|column| {
                let column = column.as_primitive::<Float32Type>();
                column.is_valid(i).then(|| column.value(i).to_bits())
            });
            all.push((tasks.value(i).to_owned(), subjects.value(i), times.value(i), features.collect()));
        }
    }
    all
}

/// Archives the rows, so many a message and a commit, and computes their features from there.
fn from_the_library(rows: &[Row], message: usize, commit: usize) -> Vec<Made> {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = Url::from_directory_path(folder.path().join("library")).unwrap();
        let library = Library::open(&url).await.unwrap();
        let messages: Vec<_> = rows.chunks(message).zip(0..).collect();
        for messages in messages.chunks(commit) {
            let mut batches = Vec::new();
            for (rows, position) in messages {
                let mut builder = EventsBuilder::new();
                for row in *rows {
                    builder.push(&row.event()).unwrap();
                }
                batches.push(with_position(&builder.finish().unwrap(), 0, *position).unwrap());
            }
            let up_to = BTreeMap::from([(0, messages[messages.len() - 1].1)]);
            library.append(Table::Events, batches, &up_to).await.unwrap();
        }
        let out = folder.path().join("features.parquet");
        let report = learn::features(&library, &spec(FEATURES), &tasks(), &out, &mut |_| {}).await.unwrap();
        let read = read(&out);
        assert_eq!((report.rows, report.columns), (read.len() as u64, spec(FEATURES).len() as u64));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no draft stays behind");
        read
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn invariant_06_the_library_gives_the_vectors_that_were_computed_live(
        rows in log(100), message in 1usize..20, commit in 1usize..5,
    ) {
        prop_assert_eq!(from_the_library(&rows, message, commit), live(&rows));
    }
}

#[test]
fn a_model_of_texts_finds_the_counts_of_terms_by_their_names() {
    use crate::models::{Bundle, Family, FitSpec, Matrix};

    let spec = spec(FEATURES);
    let mut rows = Matrix::new(spec.len());
    for row in 0..40_u8 {
        rows.push_row(&vec![f32::from(row % 3); spec.len()]).unwrap();
    }
    let outcomes: Vec<bool> = (0..40).map(|row| row % 3 == 0).collect();
    let fit = FitSpec::new(Family::Text, "a", spec.names().to_vec(), spec.hash());
    let bundle = Bundle::fit(fit, &rows, &outcomes, &rows, &outcomes).unwrap();
    let parts = bundle.explain(rows.row(0)).unwrap().contributions;
    // Four terms in three windows, twice two in one, two in two.
    let read: Vec<&str> = (0..spec.len()).filter(|i| parts[*i] != 0.0).map(|i| spec.name(i)).collect();
    assert!(read.len() == 20 && read.iter().all(|name| name.contains(':')), "{read:?}");
}

#[test]
fn models_of_sequences_find_the_grid_by_the_names_of_its_columns() {
    use crate::models::{Bundle, Family, FitSpec, Matrix};

    let spec = spec(FEATURES);
    let mut rows = Matrix::new(spec.len());
    for row in 0..40_u8 {
        let values: Vec<f32> = (0..spec.len()).map(|column| f32::from(row) * ((column * 7 % 5) as f32)).collect();
        rows.push_row(&values).unwrap();
    }
    let outcomes: Vec<bool> = (0..40).map(|row| row % 3 == 0).collect();
    for family in Family::ALL.into_iter().filter(|family| family.reads_grid()) {
        let mut fit = FitSpec::new(family, "a", spec.names().to_vec(), spec.hash());
        (fit.params.gru.epochs, fit.params.cnn.epochs) = (1, 1);
        let bundle = Bundle::fit(fit, &rows, &outcomes, &rows, &outcomes).unwrap();
        assert_eq!(bundle.columns(), spec.len(), "{family}");
    }
}
