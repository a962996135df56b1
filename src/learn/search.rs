//! A search of hyperparameters, inside the training subjects.
//!
//! Random trials under successive halving (Jamieson and Talwalkar 2016): many are tried on a
//! quarter of the subjects, the best third of them on half, the best third of those on all.
//! A trial's figure is its mean AUROC over folds by subject. Trial 1 is the task's own
//! hyperparameters, tried on all subjects at once, so that whatever replaces them was better
//! on the same folds.
//!
//! Promises that no tuning or held-out subject is looked at, and that the same rows, seed and
//! number of trials give the same result; under a bound of minutes how many trials there are
//! depends on the machine. The winner's figure is the best of many, so it flatters: the gate
//! judges the model on held-out subjects.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::LearnError;
use super::metrics::{Scored, auroc};
use crate::events::SubjectId;
use crate::models::{Aim, Bundle, Family, FitSpec, Folds, Hyper, Matrix, ModelError, PanelSpec, at_once, side_by_side};

/// Most trials of a search: all of them stand in one entry of the ledger.
const MOST_TRIALS: usize = 200;
/// Longest search, in minutes.
const MOST_MINUTES: f64 = 24.0 * 60.0;
/// Trials that run against each other; a search of more has several rounds of them.
const ROUND: usize = 27;
/// Of a rung's trials one in so many goes on to the next.
const KEPT: usize = 3;
/// Quarters of the training subjects on each rung.
const RUNGS: [usize; 3] = [1, 2, 4];
/// Fewest rows of either outcome in a fold of a rung before the last.
const FEWEST: usize = 5;
/// Sets the rungs' random order apart from that of the folds with the same seed.
const SALT: u64 = 0x7275_6e67;

/// How long and where to search, the table `[train.search]`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchSettings {
    /// Trials, the task's own hyperparameters among them.
    pub trials: Option<usize>,
    /// Minutes after which no trial is begun.
    pub minutes: Option<f64>,
    /// Families to search; empty: that of the task.
    pub families: Vec<Family>,
    /// Folds by subject that a trial is judged on.
    pub folds: usize,
}

impl Default for SearchSettings {
    fn default() -> Self {
        SearchSettings { trials: None, minutes: None, families: Vec::new(), folds: 3 }
    }
}

impl SearchSettings {
    /// Whether a search with them ends and can judge.
    ///
    /// # Errors
    /// What is wrong, and the range.
    pub fn check(&self) -> Result<(), String> {
        match (self.trials, self.minutes) {
            (None, None) => Err("has no end: say how many trials, how many minutes, or both".to_owned()),
            (Some(trials), _) if !(1..=MOST_TRIALS).contains(&trials) => {
                Err(format!("trials must be 1 to {MOST_TRIALS}"))
            }
            (_, Some(minutes)) if !(minutes > 0.0 && minutes <= MOST_MINUTES) => {
                Err(format!("minutes must be above 0 and at most {MOST_MINUTES}"))
            }
            _ if !(2..=20).contains(&self.folds) => Err("folds must be 2 to 20".to_owned()),
            _ => Ok(()),
        }
    }
}

/// What a search found, for the report and the ledger.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Search {
    /// The trial whose hyperparameters are used.
    pub best: Trial,
    /// Every trial, in order; the first has the task's own hyperparameters.
    pub trials: Vec<Trial>,
    /// Folds by subject.
    pub folds: usize,
    /// Wall time.
    pub seconds: f64,
}

/// One choice of hyperparameters and how it fared.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Trial {
    /// Number, from 1 up.
    pub trial: usize,
    /// Family.
    pub family: Family,
    /// The hyperparameters that the family reads, as under `[train.params]`.
    pub params: Value,
    /// Share of the training subjects it was last judged on; 0 if never.
    pub share: f64,
    /// Mean over the folds there.
    pub auroc: Option<f64>,
    /// Sum of the times of all its fits.
    pub seconds: f64,
    /// Why it could not be fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Looks for the family and the hyperparameters with the best AUROC on `x`, rows of training
/// subjects. `own`: what would be fitted without a search, its `groups` saying whose each row
/// is.
///
/// # Errors
/// [`LearnError::Cohort`] if a fold would lack an outcome; if no trial could be fitted on all
/// subjects, the error of the first that failed.
pub(super) fn search(
    settings: &SearchSettings,
    own: &FitSpec,
    x: &Matrix,
    labels: &[bool],
    progress: &mut dyn FnMut(&str),
) -> Result<(Search, Family, Hyper), LearnError> {
    let begin = Instant::now();
    let end = settings.minutes.map(|minutes| begin + Duration::from_secs_f64(minutes * 60.0));
    let most = settings.trials.unwrap_or(MOST_TRIALS).min(MOST_TRIALS);
    let rungs = rungs(settings, own, labels)?;
    let last = rungs.len() - 1;
    let mut race = Race { settings, own, x, rungs, choices: vec![], trials: vec![], failed: None, progress };

    let first = race.enter();
    race.run(last, &[first], None);
    while race.trials.len() < most && end.is_none_or(|end| Instant::now() < end) {
        let entering = ROUND.min(most - race.trials.len());
        let mut racing: Vec<usize> = (0..entering).map(|_| race.enter()).collect();
        for rung in 0..=last {
            // What is left of the time is shared out, so that some reach the last rung.
            let now = Instant::now();
            let until = end.map(|end| now + end.saturating_duration_since(now) / (last - rung + 1) as u32);
            race.run(rung, &racing, until);
            racing = race.ranked(racing, rung);
            racing.truncate(racing.len().div_ceil(KEPT));
        }
    }

    let ranked = race.ranked((0..race.trials.len()).collect(), last);
    let Race { choices, trials, failed, .. } = race;
    let Some(&best) = ranked.first() else {
        return Err(failed.map_or_else(|| too_few(own, settings), LearnError::Model));
    };
    let (family, hyper) = choices[best].clone();
    let best = trials[best].clone();
    // Under a bound of minutes some may have been entered that nobody had the time to try.
    let trials = trials.into_iter().filter(|trial| trial.share > 0.0 || trial.problem.is_some()).collect();
    Ok((Search { best, trials, folds: settings.folds, seconds: begin.elapsed().as_secs_f64() }, family, hyper))
}

/// A share of the training subjects, dealt into folds.
struct Rung {
    share: f64,
    /// Rows of the whole matrix.
    rows: Vec<usize>,
    labels: Vec<bool>,
    groups: Option<Vec<i64>>,
    folds: Folds,
}

/// The rungs that hold enough of either outcome; the last has all rows.
fn rungs(settings: &SearchSettings, own: &FitSpec, labels: &[bool]) -> Result<Vec<Rung>, LearnError> {
    let groups = own.groups.as_deref();
    let quarters = Folds::new(labels, groups, 4, own.seed ^ SALT);
    let mut rungs = Vec::new();
    for count in RUNGS {
        let mut rows: Vec<usize> = (0..count).flat_map(|quarter| quarters.held(quarter)).collect();
        rows.sort_unstable();
        let labels: Vec<bool> = rows.iter().map(|&row| labels[row]).collect();
        let groups = groups.map(|groups| rows.iter().map(|&row| groups[row]).collect::<Vec<i64>>());
        let folds = Folds::new(&labels, groups.as_deref(), settings.folds, own.seed);
        let is_last = count == quarters.count();
        if folds.can_judge(&labels, if is_last { 1 } else { FEWEST }) {
            rungs.push(Rung { share: count as f64 / quarters.count() as f64, rows, labels, groups, folds });
        } else if is_last {
            return Err(too_few(own, settings));
        }
    }
    Ok(rungs)
}

fn too_few(own: &FitSpec, settings: &SearchSettings) -> LearnError {
    let reason = format!(
        "a search on {} folds needs training subjects of both outcomes in each; lower train.search.folds, leave the \
         search out, or gather more history",
        settings.folds
    );
    LearnError::Cohort { task: own.name.clone(), reason }
}

/// Every trial so far.
struct Race<'a> {
    settings: &'a SearchSettings,
    own: &'a FitSpec,
    x: &'a Matrix,
    rungs: Vec<Rung>,
    choices: Vec<(Family, Hyper)>,
    trials: Vec<Trial>,
    /// The first error of a fit.
    failed: Option<ModelError>,
    progress: &'a mut dyn FnMut(&str),
}

impl Race<'_> {
    /// Adds a trial: first each family as the task has it, then what is drawn, in turn.
    fn enter(&mut self) -> usize {
        let (number, own) = (self.trials.len(), &self.own.params);
        let families = match self.settings.families.as_slice() {
            [] => &[self.own.family],
            families => families,
        };
        let family = families[number % families.len()];
        let hyper = if number < families.len() {
            own.clone()
        } else {
            // Of the columns, a fit reads so many at most.
            let columns = self.own.select.and_then(|select| select.most).unwrap_or(usize::MAX).min(self.x.columns());
            own.drawn(family, columns, self.own.seed, number as u64)
        };
        let params = told(&hyper, family);
        self.choices.push((family, hyper));
        self.trials.push(Trial {
            trial: number + 1,
            family,
            params,
            share: 0.0,
            auroc: None,
            seconds: 0.0,
            problem: None,
        });
        number
    }

    /// Judges some trials on a rung; one that is not through by `until` stays where it was.
    fn run(&mut self, rung: usize, racing: &[usize], until: Option<Instant>) {
        let Rung { share, folds, .. } = &self.rungs[rung];
        let jobs: Vec<(usize, usize)> =
            racing.iter().flat_map(|&trial| (0..folds.count()).map(move |fold| (trial, fold))).collect();
        let (choices, own, x, on) = (&self.choices, self.own, self.x, &self.rungs[rung]);
        let work = |&(trial, fold): &(usize, usize)| {
            let begin = Instant::now();
            let is_late = until.is_some_and(|until| begin >= until);
            (!is_late).then(|| (judge(&choices[trial], own, x, on, fold), begin.elapsed().as_secs_f64()))
        };
        let best = self.trials.iter().filter(|trial| trial.share == 1.0).filter_map(|trial| trial.auroc);
        let best = best.max_by(f64::total_cmp).map_or(String::new(), |auroc| format!(", best AUROC {auroc:.4}"));
        let of = self.settings.trials.map_or(String::new(), |trials| format!(" of {trials}"));
        let (progress, rungs) = (&mut self.progress, self.rungs.len());
        let mut say = |job: usize, _: &_| {
            progress(&format!("trial {}{of}, rung {} of {rungs}{best}", jobs[job].0 + 1, rung + 1));
        };
        let mut results = side_by_side(at_once(x), &jobs, work, &mut say).into_iter();
        for &trial in racing {
            let outcomes: Vec<_> = results.by_ref().take(folds.count()).collect();
            let (trial, mut areas, mut problem) = (&mut self.trials[trial], Vec::new(), None);
            for (outcome, seconds) in outcomes.into_iter().flatten() {
                trial.seconds += seconds;
                match outcome {
                    Ok(area) => areas.push(area),
                    Err(error) => problem = problem.or(Some(error)),
                }
            }
            if let Some(error) = problem {
                trial.problem = Some(error.to_string());
                self.failed.get_or_insert(error);
            } else if areas.len() == folds.count() {
                trial.share = *share;
                trial.auroc = Some(areas.iter().sum::<f64>() / areas.len() as f64);
            }
        }
    }

    /// Those of some trials that were judged on a rung, the best first, of equal ones the earlier.
    fn ranked(&self, trials: Vec<usize>, rung: usize) -> Vec<usize> {
        let share = self.rungs[rung].share;
        let is_through = |trial: &Trial| trial.share == share && trial.problem.is_none();
        let mut through: Vec<usize> = trials.into_iter().filter(|&i| is_through(&self.trials[i])).collect();
        let auroc = |i: usize| self.trials[i].auroc.unwrap_or(0.0);
        through.sort_by(|&a, &b| auroc(b).total_cmp(&auroc(a)).then(a.cmp(&b)));
        through
    }
}

/// AUROC on one fold of a rung. Calibration is fitted on the fold itself: it keeps the order
/// of the rows, so it cannot flatter this figure.
fn judge(
    (family, hyper): &(Family, Hyper),
    own: &FitSpec,
    x: &Matrix,
    rung: &Rung,
    fold: usize,
) -> Result<f64, ModelError> {
    let part = |rows: &[usize]| {
        let whole: Vec<usize> = rows.iter().map(|&row| rung.rows[row]).collect();
        (x.pick(&whole), rows.iter().map(|&row| rung.labels[row]).collect::<Vec<bool>>())
    };
    let kept = rung.folds.kept(fold);
    let groups = rung.groups.as_ref().map(|groups| kept.iter().map(|&row| groups[row]).collect());
    let onsets = own.onsets.as_ref().map(|onsets| kept.iter().map(|&row| onsets[rung.rows[row]]).collect());
    let held = rung.folds.held(fold);
    let targets = |rows: &[usize], panel: &PanelSpec| rows.iter().map(|&row| panel.train[rung.rows[row]]).collect();
    let panel = own.panel.as_ref().map(|panel| PanelSpec {
        question: panel.question.clone(),
        train: targets(&kept, panel),
        tuning: targets(&held, panel),
    });
    // Those of which it is known whether what is watched happened.
    let seen: Vec<usize> = panel.as_ref().map_or_else(|| (0..held.len()).collect(), PanelSpec::seen);
    let ((train, labels), (held, outcomes)) = (part(&kept), part(&held));
    // What follows from the task's tuning subjects does not belong to these rows.
    let spec = FitSpec {
        family: *family,
        params: hyper.clone(),
        groups,
        tuning_groups: None,
        onsets,
        tuning_onsets: None,
        aim: Aim::default(),
        patient_days: None,
        abstain: None,
        crossfit: None,
        panel,
        ..own.clone()
    };
    let bundle = Bundle::fit(spec, &train, &labels, &held, &outcomes)?;
    let mut risks = Vec::new();
    bundle.score(held.values(), &mut risks)?;
    let of = |row: usize| Scored { subject: SubjectId(0), risk: risks[row], outcome: outcomes[row] };
    let scored: Vec<Scored> = seen.into_iter().map(of).collect();
    // Both outcomes are in every fold.
    Ok(auroc(&scored).unwrap_or(0.5))
}

/// The tables under `[train.params]` that a family reads.
fn told(hyper: &Hyper, family: Family) -> Value {
    let all = serde_json::to_value(hyper).unwrap_or_default();
    let mut read = vec![family];
    if family == Family::Stack {
        read.extend(&hyper.stack.members);
    }
    let tables = read.iter().filter_map(|family| Some((family.to_string(), all.get(family.as_str())?.clone())));
    Value::Object(tables.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{BoostingHyper, LogisticHyper};

    const COLUMNS: usize = 150;

    /// One column tells the outcome, the others are noise that a small penalty follows.
    fn problem(subjects: i64) -> (FitSpec, Matrix, Vec<bool>) {
        let mut x = Matrix::new(COLUMNS);
        let (mut labels, mut groups) = (Vec::new(), Vec::new());
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        for subject in 0..subjects {
            for _ in 0..2 {
                let row: Vec<f32> = (0..COLUMNS).map(|_| noise()).collect();
                labels.push(row[0] + noise() > 0.2);
                x.push_row(&row).unwrap();
                groups.push(subject);
            }
        }
        let names = (0..COLUMNS).map(|i| format!("f{i}")).collect();
        let spec = FitSpec { groups: Some(groups), ..FitSpec::new(Family::Logistic, "t", names, "spec") };
        (spec, x, labels)
    }

    const SETTINGS: SearchSettings = SearchSettings { trials: Some(30), minutes: None, families: vec![], folds: 3 };

    fn run(settings: &SearchSettings, own: &FitSpec) -> Result<(Search, Family, Hyper), LearnError> {
        let (_, x, labels) = problem(200);
        search(settings, own, &x, &labels, &mut |_| {})
    }

    #[test]
    fn it_finds_better_than_a_bad_start_and_the_same_again() {
        let (mut own, x, labels) = problem(200);
        own.params.logistic = LogisticHyper { alpha: 1e-4, ..LogisticHyper::default() };
        let mut said = Vec::new();
        let (found, family, hyper) =
            search(&SETTINGS, &own, &x, &labels, &mut |what| said.push(what.to_owned())).unwrap();
        assert_eq!((family, found.trials.len(), found.folds), (Family::Logistic, 30, 3));
        let first = &found.trials[0];
        assert_eq!((first.trial, first.share), (1, 1.0));
        assert_eq!(first.params["logistic"]["alpha"], 1e-4);
        assert!(found.best.auroc > first.auroc.map(|auroc| auroc + 0.02), "{:?} {first:?}", found.best);
        assert_eq!(found.best.params["logistic"]["alpha"], hyper.logistic.alpha);
        assert_eq!(found.best.share, 1.0);
        // 27 on a quarter, 9 of them on half, 3 of those on all; then the last 2: 2, 1, 1.
        let at = |share: f64| found.trials.iter().filter(|trial| trial.share == share).count();
        assert_eq!((at(0.25), at(0.5), at(1.0)), (19, 6, 5));
        assert!(said[0].starts_with("trial 1 of 30, rung 3 of 3"), "{}", said[0]);
        assert!(said.last().unwrap().contains("best AUROC 0."));

        let (again, ..) = run(&SETTINGS, &own).unwrap();
        let figures = |search: &Search| -> Vec<(Value, f64, Option<f64>)> {
            search.trials.iter().map(|trial| (trial.params.clone(), trial.share, trial.auroc)).collect()
        };
        assert_eq!(figures(&again), figures(&found));
        own.seed = 1;
        assert_ne!(figures(&run(&SETTINGS, &own).unwrap().0), figures(&found));
    }

    #[test]
    fn one_trial_is_the_tasks_own_and_no_time_leaves_it_at_that() {
        let (own, ..) = problem(200);
        for settings in [
            SearchSettings { trials: Some(1), ..SETTINGS },
            SearchSettings { trials: None, minutes: Some(1e-9), ..SETTINGS },
        ] {
            let (found, _, hyper) = run(&settings, &own).unwrap();
            assert_eq!((found.trials.len(), hyper), (1, own.params.clone()));
            assert_eq!(found.best, found.trials[0]);
        }
    }

    #[test]
    fn families_take_turns_and_one_that_cannot_be_fitted_says_why() {
        let (mut own, ..) = problem(200);
        own.params.forest.trees = 0;
        let families = vec![Family::Forest, Family::Logistic];
        let settings = SearchSettings { trials: Some(4), families, ..SETTINGS };
        let (found, family, _) = run(&settings, &own).unwrap();
        assert_eq!(family, Family::Logistic);
        let families: Vec<Family> = found.trials.iter().map(|trial| trial.family).collect();
        assert_eq!(families, [Family::Forest, Family::Logistic, Family::Forest, Family::Logistic]);
        assert!(found.trials[0].problem.as_ref().unwrap().contains("forest.trees"));
        assert!(found.trials[1].problem.is_none() && found.trials[2].share == 0.0);
        let settings = SearchSettings { families: vec![Family::Forest], ..settings };
        assert!(matches!(run(&settings, &own), Err(LearnError::Model(ModelError::Parameter { .. }))));
    }

    #[test]
    fn rungs_that_are_too_small_are_left_out_and_no_folds_are_an_error() {
        let (own, x, labels) = problem(200);
        let (small_own, small_x, small) = problem(12);
        let shares = |own: &FitSpec, labels: &[bool]| -> Vec<f64> {
            rungs(&SETTINGS, own, labels).unwrap().iter().map(|rung| rung.share).collect()
        };
        assert_eq!(shares(&own, &labels), [0.25, 0.5, 1.0]);
        assert_eq!(shares(&small_own, &small), [1.0]);
        assert_eq!(x.rows(), 400);
        let none = vec![false; small.len()];
        let error = search(&SETTINGS, &small_own, &small_x, &none, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("train.search.folds"), "{error}");
    }

    #[test]
    fn a_trial_selects_in_each_fold_as_the_task_says() {
        use crate::models::Select;
        let (mut own, x, labels) = problem(200);
        let auroc = |own: &FitSpec| {
            let settings = SearchSettings { trials: Some(1), ..SETTINGS };
            search(&settings, own, &x, &labels, &mut |_| {}).unwrap().0.best.auroc.unwrap()
        };
        own.params.logistic = LogisticHyper { alpha: 1e-4, ..LogisticHyper::default() };
        let whole = auroc(&own);
        own.select = Some(Select { rare: Some(10), most: Some(1) });
        // Without the 149 columns of noise that so small a penalty follows.
        assert!(auroc(&own) > whole + 0.05, "{whole}");
        own.select = Some(Select { rare: Some(1_000), most: None });
        let error = search(&SETTINGS, &own, &x, &labels, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("train.select.rare"), "{error}");
    }

    /// The first rung has a quarter of the rows, from everywhere. The onsets follow the column that tells.
    #[test]
    fn a_trial_learns_from_the_onsets_of_its_own_rows() {
        let (mut own, x, labels) = problem(200);
        own.params.hazard = BoostingHyper { rounds: 40, patience: 0, eta: 0.2, ..BoostingHyper::default() };
        own.onsets = Some((0..x.rows()).map(|row| Some(100.0 * (1.0 - x.row(row)[0]))).collect());
        let rungs = rungs(&SETTINGS, &own, &labels).unwrap();
        assert_ne!(rungs[0].rows, (0..100).collect::<Vec<_>>());
        let choice = (Family::Hazard, own.params.clone());
        for fold in 0..3 {
            let auroc = judge(&choice, &own, &x, &rungs[0], fold).unwrap();
            assert!(auroc > 0.8, "{auroc}");
        }
    }

    /// A subject of a rung is on it with all rows, and each rung holds the one before it.
    #[test]
    fn rungs_are_of_whole_subjects_and_grow() {
        let (own, _, labels) = problem(200);
        let rungs = rungs(&SETTINGS, &own, &labels).unwrap();
        assert!(rungs.windows(2).all(|pair| pair[0].rows.iter().all(|row| pair[1].rows.contains(row))));
        for rung in &rungs {
            assert_eq!(rung.rows.len() as f64, 400.0 * rung.share);
            assert!(rung.rows.iter().all(|row| rung.rows.contains(&(row ^ 1))));
        }
    }
}
