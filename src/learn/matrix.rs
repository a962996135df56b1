//! The library replayed into labelled rows, by the very fold that runs online.
//!
//! Promises that a row holds what the daemon would have computed at that moment
//! (invariant 6), and that its label comes from the facts that survived all corrections
//! and retractions. In memory are the states of as many partitions as there are cores, of them
//! only the subjects that are asked for, what is known of every row beside its features, and of
//! these as many as there is room for. Rows without a label are counted, never guessed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use futures::StreamExt as _;
use serde::Serialize;

use super::LearnError;
use super::aces::{self, Evaluator};
use super::facts::Facts;
use super::outcome::{Outcome, outcomes};
use super::output::write_parquet;
use super::spill::{Reader, Spill, Store, Values, Writer};
use super::task::Task;
use super::wanted::Wanted;
use crate::events::{DAY, EventsView, HOUR, Micros, Split, SubjectId, split_of};
use crate::features::{Due, FeatureSpec, Fold, Trigger};
use crate::library::Library;
use crate::models::{Matrix, PanelSpec, Question, Target};

/// The parts of a dataset.
const SPLITS: [Split; 3] = [Split::Train, Split::Tuning, Split::HeldOut];

/// What is learned from.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// The case library.
    pub library: &'a Library,
    /// What is computed from it.
    pub features: Arc<FeatureSpec>,
    /// Room for the features' values.
    pub spill: Spill,
}

/// When a row was made, of whom, and what became of it.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Row {
    /// Whose.
    pub(super) subject: SubjectId,
    /// Time of the prediction.
    pub(super) time: Micros,
    /// Whether what the task watches happened.
    pub(super) outcome: bool,
    /// Whether that is known; else it was lost from sight before, and `outcome` is false.
    pub(super) seen: bool,
    /// What became of it, where the label is more than yes or no.
    pub(super) target: Option<Target>,
    /// When what it tells first happened; `None` if it did not.
    pub(super) onset: Option<Micros>,
    /// When the label's predicate first counts from the start of its window on, also after the window; `None` if it
    /// never does, as far as is known.
    pub(super) happens: Option<Micros>,
}

#[cfg(test)]
impl Row {
    /// A row at time 0 whose label is yes or no.
    pub(super) fn of(subject: SubjectId, outcome: bool) -> Row {
        Row { subject, time: 0, outcome, seen: true, target: None, onset: None, happens: None }
    }
}

/// Labelled rows and their features.
#[derive(Clone, Default, Debug)]
pub(super) struct Rows {
    /// One entry a row.
    pub(super) rows: Vec<Row>,
    /// Their features.
    pub(super) values: Values,
}

impl Rows {
    /// How many rows have a true label.
    pub(super) fn positives(&self) -> usize {
        self.rows.iter().filter(|row| row.outcome).count()
    }

    /// The features as a matrix, and the rows beside it.
    ///
    /// # Errors
    /// If they cannot be read back.
    pub(super) fn into_matrix(self, columns: usize) -> Result<(Matrix, Vec<Row>), LearnError> {
        let mut matrix = Matrix::with_capacity(columns, self.rows.len());
        for block in self.values.into_blocks() {
            let block = block?;
            (0..block.rows()).try_for_each(|i| matrix.push_row(block.row(i)))?;
        }
        Ok((matrix, self.rows))
    }

    /// The rows, and their features some rows at a time.
    pub(super) fn into_blocks(self) -> (Vec<Row>, Reader) {
        (self.rows, self.values.into_blocks())
    }

    /// Adds the rows of another.
    pub(super) fn append(&mut self, mut other: Rows) {
        self.rows.append(&mut other.rows);
        self.values.append(other.values);
    }
}

/// Writes rows and their labels in the columns of the MEDS `LabelSchema` (`subject_id`, `prediction_time`,
/// `boolean_value`), and others behind them, ordered by subject and time. Each column has an entry a row.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write_rows(path: &Path, rows: &[Row], more: Vec<(Field, ArrayRef)>) -> Result<(), LearnError> {
    let mut order: Vec<u64> = (0..rows.len() as u64).collect();
    order.sort_by_key(|&i| (rows[i as usize].subject, rows[i as usize].time));
    let (mut fields, mut columns): (Vec<Field>, Vec<ArrayRef>) = more.into_iter().unzip();
    fields.splice(
        0..0,
        [
            Field::new("subject_id", DataType::Int64, false),
            Field::new("prediction_time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
            Field::new("boolean_value", DataType::Boolean, false),
        ],
    );
    let own: [ArrayRef; 3] = [
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.subject.0))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.time))),
        Arc::new(rows.iter().map(|row| Some(row.outcome)).collect::<BooleanArray>()),
    ];
    columns.splice(0..0, own);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    write_parquet(path, &take_record_batch(&batch, &UInt64Array::from(order))?)
}

/// What a panel is fitted for where the label is more than yes or no, and what became of its rows.
pub(super) fn panel_of(question: &Question, train: &[Row], tuning: &[Row]) -> PanelSpec {
    let targets = |rows: &[Row]| rows.iter().filter_map(|row| row.target).collect();
    PanelSpec { question: question.clone(), train: targets(train), tuning: targets(tuning) }
}

/// Of each row, hours from the prediction until its outcome happens, also after the label's window; what happens no
/// later than the prediction (a window may start before it) happens as soon after it as the clock can tell.
pub(super) fn onsets(rows: &[Row]) -> Vec<Option<f32>> {
    let hours = |row: &Row| Some((row.happens?.saturating_sub(row.time).max(1) as f64 / HOUR as f64) as f32);
    rows.iter().map(hours).collect()
}

/// How many patient-days rows watch over: each day (UTC) on which a subject has a row counts as
/// one, however many rows it has then and however short its stay was.
pub(super) fn patient_days(rows: &[Row]) -> f64 {
    let days: BTreeSet<(SubjectId, i64)> = rows.iter().map(|row| (row.subject, row.time.div_euclid(DAY))).collect();
    days.len() as f64
}

/// Rows that could not be used.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct LeftOut {
    /// The ACES task gives no label at the prediction's time, or its subject is another's now.
    pub unlabelled: u64,
    /// It gives two that differ.
    pub contradictory: u64,
    /// It looks beyond what is known yet: its last window has not closed. Also where it is true
    /// already, for else the last days would hold more true labels than there are.
    pub unsettled: u64,
    /// The fold skipped the time: too many fell due at once.
    pub skipped: u64,
}

/// The labelled rows of a task.
#[derive(Clone, Default, Debug)]
pub(super) struct Dataset {
    /// To fit on.
    pub(super) train: Rows,
    /// To calibrate on.
    pub(super) tuning: Rows,
    /// To judge by.
    pub(super) held_out: Rows,
    /// What is not among them.
    pub(super) left_out: LeftOut,
    /// Of each predicate of the ACES task, whether it occurs in the records that were labelled.
    occurred: Vec<bool>,
    /// Of each labelled row, hours from the prediction until its label settled.
    lags: Vec<f32>,
}

/// How long labels take to settle, in hours.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct LabelLag {
    /// Half of them take no longer.
    pub p50: f32,
    /// Of a hundred, 99 take no longer.
    pub p99: f32,
}

impl Dataset {
    fn part(&mut self, split: Split) -> &mut Rows {
        match split {
            Split::Train => &mut self.train,
            Split::Tuning => &mut self.tuning,
            Split::HeldOut => &mut self.held_out,
        }
    }

    /// Predicates of the ACES task that occur nowhere in the records that were labelled.
    pub(super) fn absent(&self, config: &aces::Config) -> Vec<String> {
        config.absent(&self.occurred)
    }

    /// How long the labels took to settle; `None` without any.
    pub(super) fn lag(&self) -> Option<LabelLag> {
        let mut lags = self.lags.clone();
        lags.sort_unstable_by(f32::total_cmp);
        let of = |share: f64| lags.get(((lags.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied();
        Some(LabelLag { p50: of(0.5)?, p99: of(0.99)? })
    }

    fn append(&mut self, mut other: Dataset) {
        self.lags.append(&mut other.lags);
        aces::merge(&mut self.occurred, &other.occurred);
        self.train.append(other.train);
        self.tuning.append(other.tuning);
        self.held_out.append(other.held_out);
        self.left_out.unlabelled += other.left_out.unlabelled;
        self.left_out.contradictory += other.left_out.contradictory;
        self.left_out.unsettled += other.left_out.unsettled;
        self.left_out.skipped += other.left_out.skipped;
    }
}

/// Replays the whole library, or of it the subjects of one split, into the rows of a task.
///
/// Partitions are replayed on the runtime's blocking threads, as many at once as there are
/// cores; the rows come in the same order whatever the cores.
///
/// # Errors
/// If the library cannot be read, there is no room for a single row, or rows that do not fit
/// into memory cannot be written to a file.
pub(super) async fn dataset(
    source: &Source<'_>,
    task: &Task,
    only: Option<Split>,
    progress: &mut dyn FnMut(&str),
) -> Result<Dataset, LearnError> {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let store = Store::new(&source.spill, source.features.len(), at_once * SPLITS.len())?;
    let partitions = source.library.partitions().await?;
    let count = partitions.len();
    let (config, runtime) = (Arc::new((task.aces.clone(), task.wanted.clone())), tokio::runtime::Handle::current());
    let mut replays = futures::stream::iter(partitions)
        .map(|partition| {
            let (library, spec) = (source.library.clone(), Arc::clone(&source.features));
            let (config, runtime, trigger) = (Arc::clone(&config), runtime.clone(), task.trigger.clone());
            let store = Arc::clone(&store);
            tokio::task::spawn_blocking(move || {
                runtime.block_on(replay(
                    &library,
                    partition,
                    spec,
                    trigger,
                    (&config.0, config.1.as_ref()),
                    only,
                    &store,
                ))
            })
        })
        .buffered(at_once);
    let mut all = Dataset::default();
    let mut done = 0;
    progress(&format!("replaying {count} partitions"));
    while let Some(replayed) = replays.next().await {
        all.append(replayed.map_err(|_| LearnError::Interrupted)??);
        done += 1;
        progress(&format!("replayed {done} of {count} partitions"));
    }
    // What was replayed while there was room makes some for whoever reads.
    if store.is_full() {
        for split in SPLITS {
            all.part(split).values.spill(&store)?;
        }
    }
    Ok(all)
}

/// The predictions of a partition.
struct Made {
    /// Of whom and when.
    rows: Vec<(SubjectId, Micros)>,
    /// Their features, by [`SPLITS`].
    writers: [Writer; 3],
}

impl Made {
    fn new(store: &Arc<Store>) -> Made {
        Made { rows: Vec::new(), writers: SPLITS.map(|_| Writer::new(store)) }
    }

    fn push(&mut self, subject: SubjectId, time: Micros, features: &[f32]) -> Result<(), LearnError> {
        self.rows.push((subject, time));
        self.writers[place(split_of(subject))].push(features)
    }
}

/// Where in [`SPLITS`] a split is.
fn place(split: Split) -> usize {
    match split {
        Split::Train => 0,
        Split::Tuning => 1,
        Split::HeldOut => 2,
    }
}

/// One partition's rows.
async fn replay(
    library: &Library,
    partition: u32,
    spec: Arc<FeatureSpec>,
    trigger: Trigger,
    (config, wanted): (&aces::Config, Option<&Wanted>),
    only: Option<Split>,
    store: &Arc<Store>,
) -> Result<Dataset, LearnError> {
    let mut fold = Fold::new(spec, vec![trigger]);
    let mut facts = Facts::new(config);
    let mut due = Due::default();
    let mut made = Made::new(store);
    // How far what happened is known: labels beyond are not settled.
    let mut known = Micros::MIN;
    let mut history = library.history(partition).await?;
    while let Some(batch) = history.next().await? {
        let view = EventsView::new(&batch)?;
        for i in 0..view.len() {
            let event = view.row(i);
            known = known.max(event.recorded_at);
            // Ticks belong to all: they move the clock.
            if let (Some(subject), Some(only)) = (event.subject, only)
                && split_of(subject) != only
            {
                continue;
            }
            fold.apply(&event, Some(&mut due));
            facts.apply(&event);
            for (at, row) in due.rows.iter().enumerate() {
                made.push(row.subject, row.time, due.row(at))?;
            }
            due.clear();
        }
    }
    let skipped = fold.skipped();
    drop(fold);
    let mut dataset = label(facts, (config, wanted), made, known)?;
    dataset.left_out.skipped = skipped;
    Ok(dataset)
}

/// Joins predictions and labels by subject and time.
fn label(
    mut facts: Facts,
    (config, wanted): (&aces::Config, Option<&Wanted>),
    made: Made,
    known: Micros,
) -> Result<Dataset, LearnError> {
    let mut times: BTreeMap<SubjectId, Vec<Micros>> = BTreeMap::new();
    for (subject, time) in &made.rows {
        times.entry(*subject).or_default().push(*time);
    }
    let mut evaluator = Evaluator::new(config);
    let labels: HashMap<SubjectId, BTreeMap<Micros, Outcome>> = times
        .into_iter()
        .map(|(subject, times)| (subject, outcomes(&mut facts, &mut evaluator, wanted, subject, &times)))
        .collect();
    let mut dataset = Dataset { occurred: evaluator.occurred().to_vec(), ..Dataset::default() };
    // Of each prediction of a split whether it becomes a row.
    let mut kept: [Vec<bool>; 3] = Default::default();
    for (subject, time) in &made.rows {
        let split = split_of(*subject);
        let before = dataset.part(split).rows.len();
        match labels.get(subject).and_then(|labels| labels.get(time)) {
            Some(outcome) if outcome.closes > known => dataset.left_out.unsettled += 1,
            Some(Outcome { told: Some(told), onset, happens, closes }) => {
                dataset.lags.push(closes.saturating_sub(*time) as f32 / HOUR as f32);
                let part = dataset.part(split);
                let (outcome, seen) = (told.outcome.unwrap_or(false), told.outcome.is_some());
                let (subject, time, onset, happens) = (*subject, *time, *onset, *happens);
                part.rows.push(Row { subject, time, outcome, seen, target: told.target, onset, happens });
            }
            Some(Outcome { told: None, .. }) => dataset.left_out.contradictory += 1,
            None => dataset.left_out.unlabelled += 1,
        }
        kept[place(split)].push(dataset.part(split).rows.len() > before);
    }
    for (split, (writer, kept)) in SPLITS.into_iter().zip(made.writers.into_iter().zip(kept)) {
        dataset.part(split).values = writer.finish(kept)?;
    }
    Ok(dataset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventKey, EventRef, Op};
    use crate::settings::TextFile;

    fn event(time: Micros, code: &'static str, key: u8, op: Op) -> EventRef<'static> {
        EventRef {
            subject: Some(SubjectId(1)),
            time: Some(time * HOUR),
            code,
            numeric_value: None,
            text_value: None,
            unit: None,
            concept: None,
            implausible: false,
            recorded_at: time * HOUR,
            op,
            event_key: EventKey([key; 16]),
            encounter_id: None,
            source: "import",
        }
    }

    const DEATH_WITHIN_A_DAY: &str = r#"
predicates:
  death: {code: MEDS_DEATH}
  prediction: {code: AUSCULT//PREDICTION}
trigger: prediction
windows:
  target: {start: trigger, end: start + 24h, start_inclusive: false, end_inclusive: true, label: death, index_timestamp: start}
"#;

    fn config(text: &str) -> aces::Config {
        aces::Config::parse(&TextFile { name: "t.yaml".to_owned(), text: text.to_owned() }).unwrap()
    }

    /// Outcomes of the predictions of subject 1 at `hours`, and what was left out.
    fn outcomes(facts: &[EventRef<'_>], config: &aces::Config, hours: &[i64]) -> (Vec<(i64, bool, f32)>, LeftOut) {
        outcomes_by(facts, config, hours, Micros::MAX)
    }

    /// The same where everything up to a time is known.
    fn outcomes_by(
        facts: &[EventRef<'_>],
        config: &aces::Config,
        hours: &[i64],
        known: Micros,
    ) -> (Vec<(i64, bool, f32)>, LeftOut) {
        let mut facts_now = Facts::default();
        facts.iter().for_each(|fact| facts_now.apply(fact));
        let mut dataset = label(facts_now, (config, None), made(hours), known).unwrap();
        let left_out = dataset.left_out;
        let part = std::mem::take(dataset.part(split_of(SubjectId(1))));
        assert!(part.rows.iter().all(|row| row.onset.is_some() == row.outcome));
        let (matrix, rows) = part.into_matrix(1).unwrap();
        let rows = rows.iter().zip(matrix.values());
        (rows.map(|(row, value)| (row.time / HOUR, row.outcome, *value)).collect(), left_out)
    }

    /// Predictions of subject 1, whose only feature is the hour.
    fn made(hours: &[i64]) -> Made {
        let spill = Spill { bytes: 1 << 20, folder: std::env::temp_dir() };
        let mut made = Made::new(&Store::new(&spill, 1, 3).unwrap());
        for hour in hours {
            made.push(SubjectId(1), hour * HOUR, &[*hour as f32]).unwrap();
        }
        made
    }

    #[test]
    fn a_patient_day_is_a_day_on_which_a_subject_is_predicted_for() {
        let row = |subject, hour: i64| Row { time: hour * HOUR, ..Row::of(SubjectId(subject), false) };
        assert_eq!(patient_days(&[]), 0.0);
        assert_eq!(patient_days(&[row(1, 0), row(1, 23), row(1, 24), row(2, 1), row(2, -1), row(1, 900)]), 5.0);
    }

    #[test]
    fn labels_come_from_the_facts_that_survive() {
        let config = config(DEATH_WITHIN_A_DAY);
        let mut facts = vec![event(20, "MEDS_DEATH", 1, Op::Assert)];
        assert_eq!(outcomes(&facts, &config, &[0, 30]).0, [(0, true, 0.0), (30, false, 30.0)]);
        // A correction moves it, a redelivery changes nothing, a retraction takes it away.
        facts.extend([event(40, "MEDS_DEATH", 1, Op::Assert); 2]);
        assert_eq!(outcomes(&facts, &config, &[0, 30]).0, [(0, false, 0.0), (30, true, 30.0)]);
        facts.push(event(41, "MEDS_DEATH", 1, Op::Retract));
        assert_eq!(outcomes(&facts, &config, &[0, 30]).0, [(0, false, 0.0), (30, false, 30.0)]);
    }

    #[test]
    fn the_onset_is_the_first_outcome_within_the_window() {
        let config = config(DEATH_WITHIN_A_DAY);
        let mut facts = Facts::default();
        for (key, hour) in (1..).zip([60, 20, 5, 12]) {
            facts.apply(&event(hour, "MEDS_DEATH", key, Op::Assert));
        }
        let mut dataset = label(facts, (&config, None), made(&[0, 12, 25, 61]), Micros::MAX).unwrap();
        let part = std::mem::take(dataset.part(split_of(SubjectId(1))));
        let onsets: Vec<_> = part.rows.iter().map(|row| row.onset.map(|onset| onset / HOUR)).collect();
        assert_eq!(onsets, [Some(5), Some(20), None, None]);
        let happens: Vec<_> = part.rows.iter().map(|row| row.happens.map(|time| time / HOUR)).collect();
        assert_eq!(happens, [Some(5), Some(20), Some(60), None]);
        assert_eq!(super::onsets(&part.rows), [Some(5.0), Some(8.0), Some(35.0), None]);
    }

    /// Two admissions share one discharge as their index, but not the hour that they are asked about.
    #[test]
    fn of_labels_that_agree_the_earliest_outcome_counts() {
        let config = config(
            r#"
predicates:
  admission: {code: A}
  discharge: {code: D}
  death: {code: MEDS_DEATH}
trigger: admission
windows:
  stay: {start: trigger, end: start -> discharge, start_inclusive: true, end_inclusive: true, index_timestamp: end}
  target: {start: trigger + 10h, end: start + 1h, start_inclusive: false, end_inclusive: true, label: death}
"#,
        );
        let told = [(0, "A"), (2, "A"), (3, "D"), (12, "MEDS_DEATH"), (20, "MEDS_DEATH")];
        let mut facts = Facts::default();
        for (key, (time, code)) in (1..).zip(told) {
            facts.apply(&event(time, code, key, Op::Assert));
        }
        let mut dataset = label(facts, (&config, None), made(&[3]), Micros::MAX).unwrap();
        let rows = std::mem::take(dataset.part(split_of(SubjectId(1)))).rows;
        assert_eq!((rows.len(), rows[0].outcome, onsets(&rows)), (1, false, vec![Some(9.0)]));
    }

    /// A window may start before the prediction, and what happens then was not after it.
    #[test]
    fn an_onset_is_never_before_the_prediction() {
        let row = |hours: i64| Row { time: HOUR, happens: Some(hours * HOUR), ..Row::of(SubjectId(1), true) };
        let onsets = onsets(&[row(0), row(1), row(3)]);
        assert_eq!(onsets[2], Some(2.0));
        assert!(onsets[..2].iter().all(|onset| onset.is_some_and(|hours| hours > 0.0 && hours < 1e-6)), "{onsets:?}");
    }

    #[test]
    fn a_label_settles_when_its_window_has_closed() {
        let config = config(DEATH_WITHIN_A_DAY);
        let facts = [event(30, "MEDS_DEATH", 1, Op::Assert)];
        let by = |hour: i64| outcomes_by(&facts, &config, &[0, 10, 20], hour * HOUR);
        let unsettled = |unsettled| LeftOut { unsettled, ..LeftOut::default() };
        assert_eq!(by(23), (vec![], unsettled(3)));
        assert_eq!(by(24), (vec![(0, false, 0.0)], unsettled(2)));
        assert_eq!(by(33), (vec![(0, false, 0.0)], unsettled(2)), "known to be true, and left out all the same");
        assert_eq!(by(44), (vec![(0, false, 0.0), (10, true, 10.0), (20, true, 20.0)], unsettled(0)));
    }

    /// Two admissions share one discharge as their index; one of them alone counts a death.
    #[test]
    fn rows_without_one_clear_label_are_left_out_and_counted() {
        let config = config(
            r#"
predicates:
  admission: {code: A}
  discharge: {code: D}
  death: {code: MEDS_DEATH}
trigger: admission
windows:
  stay: {start: trigger, end: start -> discharge, start_inclusive: true, end_inclusive: true, label: death, index_timestamp: end}
"#,
        );
        let told = [(0, "A"), (1, "MEDS_DEATH"), (2, "A"), (3, "D"), (5, "A"), (6, "D")];
        let facts: Vec<_> = (1..).zip(told).map(|(key, (time, code))| event(time, code, key, Op::Assert)).collect();
        let (rows, left_out) = outcomes(&facts, &config, &[3, 4, 6]);
        assert_eq!(rows, [(6, false, 6.0)]);
        assert_eq!(left_out, LeftOut { unlabelled: 1, contradictory: 1, unsettled: 0, skipped: 0 });
    }
}
