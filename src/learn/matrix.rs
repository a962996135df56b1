//! The library replayed into labelled rows, by the very fold that runs online.
//!
//! Promises that a row holds what the daemon would have computed at that moment
//! (invariant 6), and that its label comes from the facts that survived all corrections
//! and retractions. One partition at a time is in memory, and of it only the subjects that
//! are asked for. Rows without a label are counted, never guessed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt as _;
use serde::Serialize;

use super::LearnError;
use super::aces::{self, Evaluator};
use super::facts::Facts;
use super::outcome::{Outcome, outcomes};
use super::task::Task;
use super::wanted::Wanted;
use crate::events::{DAY, EventsView, HOUR, Micros, Split, SubjectId, split_of};
use crate::features::{Due, FeatureSpec, Fold, Trigger};
use crate::library::Library;
use crate::models::{Matrix, ModelError, Target};

/// Most bytes of all feature values together.
const LIMIT: usize = 6 << 30;

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
}

#[cfg(test)]
impl Row {
    /// A row at time 0 whose label is yes or no.
    pub(super) fn of(subject: SubjectId, outcome: bool) -> Row {
        Row { subject, time: 0, outcome, seen: true, target: None, onset: None }
    }
}

/// Labelled rows and their features.
#[derive(Clone, Default, Debug)]
pub(super) struct Rows {
    /// One entry a row.
    pub(super) rows: Vec<Row>,
    /// Features, row by row.
    values: Vec<f32>,
}

impl Rows {
    /// How many rows have a true label.
    pub(super) fn positives(&self) -> usize {
        self.rows.iter().filter(|row| row.outcome).count()
    }

    /// The features as a matrix, and the rows beside it.
    ///
    /// # Errors
    /// If the values make no whole rows of `columns`.
    pub(super) fn into_matrix(self, columns: usize) -> Result<(Matrix, Vec<Row>), ModelError> {
        Ok((Matrix::from_values(columns, self.values)?, self.rows))
    }

    /// Adds the rows of another.
    pub(super) fn append(&mut self, mut other: Rows) {
        self.rows.append(&mut other.rows);
        self.values.append(&mut other.values);
    }
}

/// The rows of which it is known whether what the task watches happened.
pub(super) fn seen(matrix: Matrix, rows: Vec<Row>) -> (Matrix, Vec<Row>) {
    if rows.iter().all(|row| row.seen) {
        return (matrix, rows);
    }
    let picked: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].seen).collect();
    (matrix.pick(&picked), picked.iter().map(|row| rows[*row]).collect())
}

/// What became of rows whose label is more than yes or no.
pub(super) fn targets(rows: &[Row]) -> Vec<Target> {
    rows.iter().filter_map(|row| row.target).collect()
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

    fn bytes(&self) -> usize {
        let values = self.train.values.len() + self.tuning.values.len() + self.held_out.values.len();
        values * size_of::<f32>()
    }
}

/// Replays the whole library, or of it the subjects of one split, into the rows of a task.
///
/// Partitions are replayed on the runtime's blocking threads, as many at once as there are
/// cores; the rows come in the same order whatever the cores.
///
/// # Errors
/// If the library cannot be read, or the rows would not fit into memory.
pub(super) async fn dataset(
    library: &Library,
    spec: &Arc<FeatureSpec>,
    task: &Task,
    only: Option<Split>,
    progress: &mut dyn FnMut(&str),
) -> Result<Dataset, LearnError> {
    replays(library, spec, task, only, spec.len(), progress).await
}

/// The same without features: rows of which only subject, time and label are known.
///
/// # Errors
/// If the library cannot be read.
pub(super) async fn labelled(
    library: &Library,
    spec: &Arc<FeatureSpec>,
    task: &Task,
    only: Option<Split>,
    progress: &mut dyn FnMut(&str),
) -> Result<Dataset, LearnError> {
    replays(library, spec, task, only, 0, progress).await
}

/// Replays the partitions; a row keeps the first `width` of its features, which are all or none.
async fn replays(
    library: &Library,
    spec: &Arc<FeatureSpec>,
    task: &Task,
    only: Option<Split>,
    width: usize,
    progress: &mut dyn FnMut(&str),
) -> Result<Dataset, LearnError> {
    let partitions = library.partitions().await?;
    let count = partitions.len();
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let (config, runtime) = (Arc::new((task.aces.clone(), task.wanted.clone())), tokio::runtime::Handle::current());
    let too_large = || LearnError::TooLarge { task: task.name.clone(), limit: LIMIT };
    let mut replays = futures::stream::iter(partitions)
        .map(|partition| {
            let (library, spec, trigger) = (library.clone(), Arc::clone(spec), task.trigger.clone());
            let (config, runtime) = (Arc::clone(&config), runtime.clone());
            tokio::task::spawn_blocking(move || {
                runtime.block_on(replay(
                    &library,
                    partition,
                    spec,
                    width,
                    trigger,
                    (&config.0, config.1.as_ref()),
                    only,
                ))
            })
        })
        .buffered(at_once);
    let mut all = Dataset::default();
    let mut done = 0;
    progress(&format!("replaying {count} partitions"));
    while let Some(replayed) = replays.next().await {
        let replayed = replayed.map_err(|_| LearnError::Interrupted)??.ok_or_else(too_large)?;
        all.append(replayed);
        if all.bytes() > LIMIT {
            return Err(too_large());
        }
        done += 1;
        progress(&format!("replayed {done} of {count} partitions"));
    }
    Ok(all)
}

/// One partition's rows, `None` if they are too many.
async fn replay(
    library: &Library,
    partition: u32,
    spec: Arc<FeatureSpec>,
    width: usize,
    trigger: Trigger,
    (config, wanted): (&aces::Config, Option<&Wanted>),
    only: Option<Split>,
) -> Result<Option<Dataset>, LearnError> {
    let mut fold = Fold::new(spec, vec![trigger]);
    let mut facts = Facts::new(config);
    let mut due = Due::default();
    let mut made: Vec<(SubjectId, Micros)> = Vec::new();
    let mut values: Vec<f32> = Vec::new();
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
        }
        made.extend(due.rows.iter().map(|row| (row.subject, row.time)));
        if width > 0 {
            values.extend_from_slice(&due.values);
        }
        due.clear();
        if values.len() * size_of::<f32>() > LIMIT {
            return Ok(None);
        }
    }
    let skipped = fold.skipped();
    drop(fold);
    let mut dataset = label(facts, (config, wanted), &made, &values, width, known);
    dataset.left_out.skipped = skipped;
    Ok(Some(dataset))
}

/// Joins predictions and labels by subject and time.
fn label(
    mut facts: Facts,
    (config, wanted): (&aces::Config, Option<&Wanted>),
    made: &[(SubjectId, Micros)],
    values: &[f32],
    width: usize,
    known: Micros,
) -> Dataset {
    let mut times: BTreeMap<SubjectId, Vec<Micros>> = BTreeMap::new();
    for (subject, time) in made {
        times.entry(*subject).or_default().push(*time);
    }
    let mut evaluator = Evaluator::new(config);
    let labels: HashMap<SubjectId, BTreeMap<Micros, Outcome>> = times
        .into_iter()
        .map(|(subject, times)| (subject, outcomes(&mut facts, &mut evaluator, wanted, subject, &times)))
        .collect();
    let mut dataset = Dataset { occurred: evaluator.occurred().to_vec(), ..Dataset::default() };
    for (i, (subject, time)) in made.iter().enumerate() {
        match labels.get(subject).and_then(|labels| labels.get(time)) {
            Some(outcome) if outcome.closes > known => dataset.left_out.unsettled += 1,
            Some(Outcome { told: Some(told), onset, closes }) => {
                dataset.lags.push(closes.saturating_sub(*time) as f32 / HOUR as f32);
                let part = dataset.part(split_of(*subject));
                let (outcome, seen) = (told.outcome.unwrap_or(false), told.outcome.is_some());
                let (subject, time, onset) = (*subject, *time, *onset);
                part.rows.push(Row { subject, time, outcome, seen, target: told.target, onset });
                part.values.extend_from_slice(&values[i * width..(i + 1) * width]);
            }
            Some(Outcome { told: None, .. }) => dataset.left_out.contradictory += 1,
            None => dataset.left_out.unlabelled += 1,
        }
    }
    dataset
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
        let made: Vec<_> = hours.iter().map(|hour| (SubjectId(1), hour * HOUR)).collect();
        let values: Vec<f32> = hours.iter().map(|hour| *hour as f32).collect();
        let mut facts_now = Facts::default();
        facts.iter().for_each(|fact| facts_now.apply(fact));
        let mut dataset = label(facts_now, (config, None), &made, &values, 1, known);
        let left_out = dataset.left_out;
        let part = std::mem::take(dataset.part(split_of(SubjectId(1))));
        assert!(part.rows.iter().all(|row| row.onset.is_some() == row.outcome));
        let rows = part.rows.iter().zip(part.values);
        (rows.map(|(row, value)| (row.time / HOUR, row.outcome, value)).collect(), left_out)
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
        let made: Vec<_> = [0, 12, 25, 61].iter().map(|hour| (SubjectId(1), hour * HOUR)).collect();
        let mut dataset = label(facts, (&config, None), &made, &[0.0; 4], 1, Micros::MAX);
        let part = std::mem::take(dataset.part(split_of(SubjectId(1))));
        let onsets: Vec<_> = part.rows.iter().map(|row| row.onset.map(|onset| onset / HOUR)).collect();
        assert_eq!(onsets, [Some(5), Some(20), None, None]);
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
