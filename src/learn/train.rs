//! From the library to a registered model, and to a champion where it passes the gate.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::LearnError;
use super::abstention::Abstention;
use super::aside::aside;
use super::evaluate::{JudgedRows, scored};
use super::gate::judge;
use super::matrix::{Dataset, LabelLag, LeftOut, Row, Source, dataset, onsets, panel_of, patient_days};
use super::metrics::{Metrics, Scored, evaluate};
use super::panel::PanelFigures;
use super::registry::Registry;
use super::sample::{Sampled, sample};
use super::search::{Search, search};
use super::task::Task;
use crate::events::Micros;
use crate::models::{Bundle, Family, FitSpec, ModelError};
use crate::telemetry::fault;

/// What came of a training, as `train` prints it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TrainReport {
    /// Task.
    pub task: String,
    /// The model that was registered.
    pub model: Named,
    /// Whether it became the champion.
    pub promoted: bool,
    /// Why, or why not.
    pub reason: String,
    /// Its figures on held-out subjects; of a label that is more than yes or no, those of what
    /// the task watches.
    pub metrics: Metrics,
    /// Figures of the whole answer on held-out subjects, where the label is more than yes or no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panel: Option<PanelFigures>,
    /// What it had to beat, on the same rows.
    pub baseline: Baseline,
    /// Predictions of the library that could not be used.
    pub left_out: LeftOut,
    /// Hours from a prediction until its label is settled: until its last window has closed.
    pub label_lag_h: Option<LabelLag>,
    /// The search of hyperparameters, where the task asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
    /// Wall time of the whole.
    pub seconds: f64,
    /// How it abstains on held-out subjects; null if its task has no `[abstain]`. The figures
    /// are of all rows.
    pub abstention: Option<Abstention>,
    /// Why the threshold falls short of the policy's aim; null where it does not.
    pub threshold_note: Option<String>,
    /// How many features `[train.select]` kept, of those that are no hour of the grid; absent without it, and of a
    /// family that it leaves whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features_kept: Option<usize>,
    /// That it was searched, fitted and calibrated on some of the rows of training and tuning
    /// subjects only, for want of `limits.train_bytes`; null where it was on all.
    pub sampled: Option<Sampled>,
}

/// Name and version of a model.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Named {
    /// Name: that of its task.
    pub name: String,
    /// Version.
    pub version: u32,
}

/// What a model is compared with.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Baseline {
    /// `champion`, or `prevalence`: everybody has the risk of the training rows' average.
    pub kind: &'static str,
    /// The champion's version; null for the prevalence.
    pub version: Option<u32>,
    /// Figures on the held-out rows.
    #[serde(flatten)]
    pub metrics: Metrics,
}

/// Fits a model for a task on the library's training subjects, calibrates it on the tuning
/// subjects, judges it on the held-out ones, registers it, and promotes it if the gate lets
/// it pass. `family`: another one than the task's. Where the task asks for a search, family
/// and hyperparameters are looked for inside the training subjects first. Where the rows to fit
/// on do not fit into memory, those of a sample of the subjects are used.
///
/// Computes on the calling thread: call it through `block_on` on a thread of its own, within
/// a multi-threaded runtime.
///
/// # Errors
/// [`LearnError::Cohort`] if there is too little to learn from or to judge by; if the
/// library, the registry or the fit fails. Nothing is registered then.
pub async fn train(
    source: &Source<'_>,
    registry: &Registry,
    task: &Task,
    family: Option<Family>,
    now: Micros,
    progress: &mut dyn FnMut(&str),
) -> Result<TrainReport, LearnError> {
    let (begin, spec) = (Instant::now(), &source.features);
    // Before anything costs time: a champion that cannot be read cannot be compared with.
    let champion = registry.champion(&task.name)?;
    let rival = match &champion {
        // One of other features cannot score these rows, nor does the daemon use it any more.
        Some(model) => match registry.load(&task.name, model) {
            Ok(rival) => Some(rival).filter(|rival| rival.card.spec_hash == spec.hash()),
            // Nor one of a format that only another version of this program reads.
            Err(LearnError::Model(ModelError::Format { .. })) => None,
            Err(error) => return Err(error),
        },
        None => None,
    };
    let mut data = dataset(source, task, None, progress).await?;
    check_cohort(task, &data)?;
    let (left_out, label_lag_h) = (data.left_out, data.lag());
    let sampled = sample(&mut [&mut data.train, &mut data.tuning], source, task, progress);
    let width = spec.len();
    let read = aside(progress, |say| -> Result<_, LearnError> {
        say("gathering the rows to fit on");
        Ok((data.train.into_matrix(width)?, data.tuning.into_matrix(width)?))
    });
    let ((train, train_rows), (tuning, tuning_rows)) = read??;
    let held_out = data.held_out;

    let onnx = match (family.unwrap_or(task.train.family), &task.train.onnx) {
        (Family::Onnx, Some(path)) => Some(std::fs::read(path).map_err(LearnError::io(path))?),
        _ => None,
    };
    let mut fit = FitSpec {
        onnx,
        family: family.unwrap_or(task.train.family),
        seed: task.train.seed,
        params: task.train.params.clone(),
        name: task.name.clone(),
        features: spec.names().to_vec(),
        spec_hash: spec.hash(),
        created_at: now,
        groups: Some(train_rows.iter().map(|row| row.subject.0).collect()),
        tuning_groups: Some(tuning_rows.iter().map(|row| row.subject.0).collect()),
        onsets: Some(onsets(&train_rows)),
        tuning_onsets: Some(onsets(&tuning_rows)),
        aim: task.policy.aim,
        patient_days: Some([patient_days(&train_rows), patient_days(&tuning_rows)]),
        abstain: task.abstain,
        panel: task.wanted.as_ref().map(|wanted| panel_of(&wanted.question, &train_rows, &tuning_rows)),
        select: task.train.select,
        crossfit: task.train.crossfit,
    };
    let settings = task.train.search.clone().map(|mut settings| {
        // Who names a family wants that one.
        settings.families = family.map_or(settings.families, |family| vec![family]);
        settings
    });
    let outcomes = |rows: &[Row]| -> Vec<bool> { rows.iter().map(|row| row.outcome).collect() };
    let (labels, tuning_labels) = (outcomes(&train_rows), outcomes(&tuning_rows));
    let fitted = aside(progress, |say| -> Result<(Bundle, Option<Search>), LearnError> {
        let mut found = None;
        if let Some(settings) = &settings {
            let (report, family, params) = search(settings, &fit, &train, &labels, say)?;
            (fit.family, fit.params, found) = (family, params, Some(report));
        }
        say(&format!("fitting {} on {} rows", fit.family, train.rows()));
        Ok((Bundle::fit(fit, &train, &labels, &tuning, &tuning_labels)?, found))
    });
    let (mut bundle, search) = fitted?.map_err(|error| Sampled::blame(sampled, error))?;
    drop((train, tuning));
    fault("train", "fitted");

    let judged = aside(progress, |say| -> Result<_, LearnError> {
        say(&format!("judging on {} rows of held-out subjects", held_out.rows.len()));
        let mut judged = JudgedRows::of(&bundle);
        judged.add_part(held_out, &bundle, rival.as_ref(), &mut |_| Ok(()))?;
        Ok(judged)
    });
    let JudgedRows { rows: held_out_rows, assessed, by_other: by_rival, panel } = judged??;
    let seed = task.train.seed;
    let panel = panel.figures(seed);
    let metrics = evaluate(&scored(&assessed, &held_out_rows), bundle.card.threshold, seed);
    let abstention = Abstention::of(&bundle, &assessed, &held_out_rows);
    let threshold_note = bundle.card.threshold_note.clone();
    let features_kept = bundle.card.found.get("features_kept").map(|&kept| kept as usize);
    let baseline = match &rival {
        Some(rival) => {
            let metrics = evaluate(&scored(&by_rival, &held_out_rows), rival.card.threshold, seed);
            Baseline { kind: "champion", version: Some(rival.card.version), metrics }
        }
        None => prevalence(&train_rows, &held_out_rows, seed),
    };
    let verdict = judge(task.gate, &metrics, baseline.version.map(|version| (version, &baseline.metrics)));

    bundle.card.metrics = figures(&metrics);
    let record = serde_json::to_value(&metrics)?;
    let mut registered = record.clone();
    if let Value::Object(registered) = &mut registered {
        if let Some(search) = &search {
            registered.insert("search".to_owned(), serde_json::to_value(search)?);
        }
        if let Some(panel) = &panel {
            registered.insert("panel".to_owned(), serde_json::to_value(panel)?);
        }
        if let Some(sampled) = &sampled {
            registered.insert("sampled".to_owned(), serde_json::to_value(sampled)?);
        }
    }
    let model = registry.register(&task.name, &mut bundle, &registered, "trained", now)?;
    fault("train", "registered");
    let instead_of = champion.map(|champion| champion.version);
    let (mut promoted, mut reason) = (verdict.promote, verdict.reason);
    if promoted {
        match registry.promote(&model, instead_of, &record, &reason, now) {
            Ok(()) => {}
            // Another process was faster, and this model was not compared with its champion.
            Err(error @ LearnError::ChampionChanged { .. }) => (promoted, reason) = (false, error.to_string()),
            Err(error) => return Err(error),
        }
    }
    if !promoted {
        registry.reject(&model, &record, &reason, now)?;
    }
    Ok(TrainReport {
        task: task.name.clone(),
        model: Named { name: model.name, version: model.version },
        promoted,
        reason,
        metrics,
        panel,
        baseline,
        left_out,
        label_lag_h,
        search,
        seconds: begin.elapsed().as_secs_f64(),
        abstention,
        threshold_note,
        features_kept,
        sampled,
    })
}

/// Refuses what nothing can be learned from or judged by, and says what is missing.
fn check_cohort(task: &Task, data: &Dataset) -> Result<(), LearnError> {
    let refuse = |mut reason: String| {
        let absent = data.absent(&task.aces);
        if !absent.is_empty() {
            reason.push_str(&format!(
                "; predicates of {} that occur in no record with a prediction: {}",
                task.aces_file,
                absent.join(", ")
            ));
        }
        Err(LearnError::Cohort { task: task.name.clone(), reason })
    };
    let parts = [("training", &data.train), ("tuning", &data.tuning), ("held-out", &data.held_out)];
    let rows: usize = parts.iter().map(|(_, part)| part.rows.len()).sum();
    let positives: usize = parts.iter().map(|(_, part)| part.positives()).sum();
    if rows == 0 {
        return refuse(format!(
            "no prediction of the library has a label ({} without one, {} with two that differ, {} whose window \
             has not closed); check that the ACES task's index_timestamp falls on the trigger's times, and that \
             there is history",
            data.left_out.unlabelled, data.left_out.contradictory, data.left_out.unsettled
        ));
    }
    let mut subjects: Vec<_> = parts.iter().flat_map(|(_, part)| part.rows.iter().map(|row| row.subject)).collect();
    subjects.sort_unstable();
    subjects.dedup();
    if subjects.len() < task.train.min_subjects {
        return refuse(format!(
            "{} subjects are labelled, train.min_subjects is {}",
            subjects.len(),
            task.train.min_subjects
        ));
    }
    if positives < task.train.min_positives {
        return refuse(format!(
            "{positives} of {rows} rows are positive, train.min_positives is {}",
            task.train.min_positives
        ));
    }
    for (name, part) in parts {
        let (positives, seen) = (part.positives(), part.rows.iter().filter(|row| row.seen).count());
        if positives == 0 || positives == seen {
            return refuse(format!(
                "{positives} of the {seen} rows of {name} subjects are positive, and both outcomes are needed there; gather more history"
            ));
        }
    }
    Ok(())
}

/// What is known without any model: the share of positives of the training rows.
fn prevalence(train: &[Row], held_out: &[Row], seed: u64) -> Baseline {
    let share = train.iter().filter(|row| row.outcome).count() as f64 / train.len().max(1) as f64;
    let scored: Vec<Scored> =
        held_out.iter().map(|row| Scored { subject: row.subject, risk: share, outcome: row.outcome }).collect();
    Baseline { kind: "prevalence", version: None, metrics: evaluate(&scored, share, seed) }
}

/// The figures that exist, for the model's card.
fn figures(metrics: &Metrics) -> BTreeMap<String, f64> {
    let all = [
        ("n", Some(metrics.n as f64)),
        ("positives", Some(metrics.positives as f64)),
        ("auroc", metrics.auroc),
        ("auprc", metrics.auprc),
        ("brier", metrics.brier),
        ("ece", metrics.ece),
        ("min_se_ppv", metrics.min_se_ppv),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
