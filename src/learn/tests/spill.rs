//! Trainings and evaluations whose rows are more than may be in memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::whole::{CHAMPION, Place, SUBJECTS, TASK, task};
use crate::events::{Split, SubjectId, split_of};
use crate::learn::matrix::{Row, Rows, Source, dataset};
use crate::learn::sample::sample;
use crate::learn::spill::{Store, Values, Writer};
use crate::learn::{self, EvaluateOptions, Evaluation, LearnError, Part, Sampled, Spill, Subjects, TrainReport};
use crate::models::Family;

/// Bytes of a row of the ward's three features.
const ROW: usize = 12;

/// How many subjects, and so rows, there are to fit on.
fn to_fit_on() -> usize {
    (0..SUBJECTS).filter(|i| split_of(SubjectId(*i)) != Split::HeldOut).count()
}

fn with_bytes(place: &mut Place, bytes: usize) -> &Place {
    place.spill.bytes = bytes;
    place
}

fn is_empty(place: &Place) -> bool {
    fs::read_dir(&place.spill.folder).unwrap().next().is_none()
}

/// What a training tells, but for how long it took.
fn timeless(report: TrainReport) -> TrainReport {
    TrainReport { seconds: 0.0, ..report }
}

#[test]
fn figures_are_the_same_with_and_without_files() {
    let mut place = Place::new(0..SUBJECTS);
    place.train(TASK).unwrap();
    place.train(&TASK.replace("\"logistic\"", "\"forest\"")).unwrap();
    let evaluate = |place: &Place| -> Result<Evaluation, LearnError> {
        let options = EvaluateOptions { version: Some(1), against: Some(2), part: Part::All, ..CHAMPION };
        place.runtime.block_on(learn::evaluate(&place.source(), &place.registry, &task(TASK), options))
    };
    let in_memory = evaluate(&place).unwrap();
    assert_eq!(in_memory.metrics.n as i64, SUBJECTS);
    for bytes in [ROW, 50 * ROW] {
        assert_eq!(evaluate(with_bytes(&mut place, bytes)).unwrap(), in_memory, "{bytes} bytes");
        assert!(is_empty(&place));
    }
    // They really were in files: without a place for these it cannot be done.
    place.spill.folder = PathBuf::from("/nowhere");
    assert!(matches!(evaluate(&place), Err(LearnError::Io { .. })));
    place.spill.bytes = 1 << 20;
    assert_eq!(evaluate(&place).unwrap(), in_memory);
}

/// The rows to fit on fit into memory, but not with the held-out ones.
#[test]
fn a_training_that_only_spills_gives_the_same_model() {
    let mut place = Place::new(0..SUBJECTS);
    let in_memory = timeless(place.train(TASK).unwrap());
    // In a registry of its own, so that the first is not its rival.
    let mut other = Place::new(0..SUBJECTS);
    let spilled = timeless(with_bytes(&mut other, to_fit_on() * ROW).train(TASK).unwrap());
    assert_eq!(spilled, in_memory);
    assert_eq!(spilled.sampled, None);
    assert!(is_empty(&other));
    place.spill = Spill { bytes: to_fit_on() * ROW, folder: PathBuf::from("/nowhere") };
    assert!(matches!(place.train(TASK), Err(LearnError::Io { .. })), "it was in files");
}

#[test]
fn a_training_beyond_its_bytes_uses_a_sample_and_says_so() {
    let mut place = Place::new(0..SUBJECTS);
    let whole = place.train(TASK).unwrap();
    assert_eq!((whole.sampled, &serde_json::to_value(&whole).unwrap()["sampled"]), (None, &serde_json::Value::Null));
    place.spill.bytes = 250 * ROW;
    let (source, task, mut said) = (place.source(), task(TASK), Vec::new());
    let mut progress = |what: &str| said.push(what.to_owned());
    let trained = learn::train(&source, &place.registry, &task, None, 7, &mut progress);
    let report = place.runtime.block_on(trained).unwrap();
    let sampled = report.sampled.unwrap();
    assert_eq!(sampled.of, to_fit_on());
    assert!((249..=250).contains(&sampled.rows), "{sampled:?}: the shares of the two parts are rounded down");
    let told = format!("using a sample of {} of {} rows", sampled.rows, sampled.of);
    assert!(said.iter().any(|line| line.starts_with(&told) && line.contains("limits.train_bytes")), "{said:?}");
    let entries = place.registry.history("death").unwrap();
    assert_eq!(entries[0].metrics.get("sampled"), None);
    let written = serde_json::to_value(sampled).unwrap();
    assert!(entries.iter().any(|entry| entry.metrics.get("sampled") == Some(&written)), "{entries:?}");
    let card = place.registry.load("death", &place.registry.version("death", 2).unwrap()).unwrap().card;
    assert_eq!((card.trained_on.rows + card.tuned_on.rows) as usize, sampled.rows);
    // All held-out rows judge it, and it is nearly as good.
    assert_eq!(report.metrics.n, whole.metrics.n);
    assert!(report.metrics.auroc.unwrap() > whole.metrics.auroc.unwrap() - 0.05, "{report:?}");

    let again = place.train(TASK).unwrap();
    assert_eq!((again.sampled, &again.metrics), (report.sampled, &report.metrics));
    let searched = TASK.replace("min_positives = 10", "min_positives = 10, search = {trials = 2}");
    let searched = place.train(&searched).unwrap();
    assert_eq!((searched.sampled, searched.search.unwrap().trials.len()), (report.sampled, 2));
    assert!(is_empty(&place));
}

#[test]
fn a_cross_validation_beyond_its_bytes_uses_a_sample_and_says_so() {
    let mut place = Place::new(0..SUBJECTS);
    let run = |place: &Place| {
        let (source, task) = (place.source(), task(TASK));
        let mut progress = |_: &str| {};
        let report = learn::crossval(&source, &task, &[Family::Logistic], 3, Subjects::Train, None, &mut progress);
        place.runtime.block_on(report)
    };
    let report = run(with_bytes(&mut place, 250 * ROW)).unwrap();
    assert_eq!((report.rows, report.sampled), (250, Some(Sampled { rows: 250, of: to_fit_on() })));
    assert!(report.families[0].judged.as_ref().unwrap().mean.auroc.unwrap() > 0.7);
    assert_eq!(run(with_bytes(&mut place, 1 << 20)).unwrap().sampled, None);
    let error = run(with_bytes(&mut place, 4 * ROW)).unwrap_err().to_string();
    assert!(error.contains("too few subjects") && error.contains("only 4 of"), "{error}");
    assert!(is_empty(&place));
}

#[test]
fn too_few_bytes_are_refused_with_their_name() {
    let mut place = Place::new(0..SUBJECTS);
    let error = with_bytes(&mut place, ROW - 1).train(TASK).unwrap_err();
    assert!(matches!(error, LearnError::RowTooWide { columns: 3, bytes: ROW, limit: 11 }), "{error}");
    let error = with_bytes(&mut place, 3 * ROW).train(TASK).unwrap_err().to_string();
    let told = format!("(only 2 of {} rows fit into limits.train_bytes; raise it)", to_fit_on());
    assert!(error.ends_with(&told), "{error}");
    assert!(place.registry.list().unwrap().is_empty() && is_empty(&place));
}

/// Of every subject two rows.
const TWICE: &str = r#"
name = "death"
horizon = "24h"
trigger = {at = ["12h", "24h"], encounter = "ICU"}
label.aces = "death.yaml"
train = {family = "logistic", min_subjects = 50, min_positives = 10}
"#;

#[test]
fn a_sample_is_of_whole_subjects_whose_outcomes_have_no_say() {
    let place = Place::new(0..SUBJECTS);
    let task = task(TWICE);
    let all = place.runtime.block_on(dataset(&place.source(), &task, None, &mut |_| {})).unwrap().train;
    let of = all.rows.len();
    let drawn = |most: usize, seed: u64| -> (Rows, Option<Sampled>) {
        let (mut rows, mut task) = (all.clone(), task.clone());
        task.train.seed = seed;
        let source = Source { spill: Spill { bytes: most * ROW, folder: PathBuf::new() }, ..place.source() };
        let sampled = sample(&mut [&mut rows], &source, &task, &mut |_| {});
        (rows, sampled)
    };
    let subjects = |rows: &Rows| -> BTreeSet<SubjectId> { rows.rows.iter().map(|row| row.subject).collect() };
    let (whole, whole_rows) = all.clone().into_matrix(3).unwrap();
    let mut before = BTreeSet::new();
    for most in [0, 1, 2, 101, of / 2, of - 1] {
        let (rows, sampled) = drawn(most, 0);
        // Two rows a subject: an odd one is left over.
        assert_eq!(sampled, Some(Sampled { rows: most / 2 * 2, of }));
        let picked = subjects(&rows);
        assert_eq!(2 * picked.len(), rows.rows.len());
        assert!(before.is_subset(&picked), "more room takes more subjects and drops none");
        before = picked;
        // Each row is still beside its own features, in the old order.
        let wanted: Vec<usize> = (0..of).filter(|&i| before.contains(&whole_rows[i].subject)).collect();
        let (matrix, rows) = rows.into_matrix(3).unwrap();
        assert_eq!(rows, wanted.iter().map(|&i| whole_rows[i]).collect::<Vec<Row>>());
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
        assert_eq!(bits(matrix.values()), bits(whole.pick(&wanted).values()));
    }
    assert_eq!((drawn(of, 0).1, drawn(of, 0).0.rows.len()), (None, of));
    assert_ne!(subjects(&drawn(of / 2, 1).0), subjects(&drawn(of / 2, 0).0));
    // Over many draws the share of positive rows is that of all.
    let share = |rows: &Rows| rows.positives() as f64 / rows.rows.len() as f64;
    let mean = (0..40).map(|seed| share(&drawn(of / 4, seed).0)).sum::<f64>() / 40.0;
    assert!((mean - share(&all)).abs() < 0.02, "{mean} of {}", share(&all));
}

/// Writes and reads 100 MB of rows with 20 MB of room, and with more than enough; prints what memory it took.
#[test]
#[ignore = "a measurement"]
fn memory_of_rows_beyond_their_bytes() {
    const COLUMNS: usize = 500;
    let parent = tempfile::tempdir().unwrap();
    let status = |name: &str| -> u64 {
        let text = fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    for bytes in [20_000_000, 1 << 30] {
        // From here on the peak is counted anew.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let (before, begin) = (status("VmRSS"), std::time::Instant::now());
        let store = Store::new(&Spill { bytes, folder: parent.path().to_owned() }, COLUMNS, 4).unwrap();
        let write = |first: u32| {
            let (mut writer, mut row) = (Writer::new(&store), [f32::NAN; COLUMNS]);
            for i in 0..12_500_u32 {
                for (column, value) in (0..).zip(&mut row) {
                    let mixed = (first + i * 500 + column).wrapping_mul(0x9e37_79b9);
                    *value = if mixed >> 30 == 0 { f32::NAN } else { (mixed >> 8) as f32 / 1000.0 };
                }
                writer.push(&row).unwrap();
            }
            writer.finish(vec![true; 12_500]).unwrap()
        };
        let mut all = Values::default();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|i| scope.spawn(move || write(i * 1_000_000))).collect();
            threads.into_iter().for_each(|thread| all.append(thread.join().unwrap()));
        });
        if store.is_full() {
            all.spill(&store).unwrap();
        }
        let written = begin.elapsed();
        let on_disk = |path: PathBuf| fs::read_dir(path).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
        let disk: u64 = fs::read_dir(parent.path()).unwrap().flat_map(|folder| on_disk(folder.unwrap().path())).sum();
        let rows: usize = all.into_blocks().map(|block| block.unwrap().rows()).sum();
        println!(
            "{rows} rows, room {} MB: peak {} MiB above {before}, files {} MB, written in {written:.1?}, all in {:.1?}",
            bytes / 1_000_000,
            status("VmHWM") - before,
            disk / 1_000_000,
            begin.elapsed()
        );
    }
}
