//! Measurements on real patients: PhysioNet 2012 set-a, 114 features, 4,000 stays.
//!
//! Not run by default, for they take minutes:
//! `cargo test --release --lib models::measured -- --ignored --nocapture`.

use std::io::Read as _;
use std::time::Instant;

use super::*;

/// Features and deaths in hospital; `None` where the data are not there, said loudly.
pub(super) fn set_a() -> Option<(Matrix, Vec<bool>, Vec<String>)> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/data/physionet2012/PhysionetChallenge2012-set-a.features.csv.gz"
    );
    let Ok(file) = std::fs::File::open(path) else {
        println!("skipped: no {path}");
        return None;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').map(str::trim).collect::<Vec<_>>());
    let names: Vec<String> = lines.next().unwrap()[6..].iter().map(|name| (*name).to_owned()).collect();
    let (mut x, mut labels) = (Matrix::new(names.len()), Vec::new());
    for line in lines {
        labels.push(line[5] == "1");
        let row: Vec<f32> = line[6..].iter().map(|value| value.parse().unwrap_or(f32::NAN)).collect();
        x.push_row(&row).unwrap();
    }
    assert_eq!((x.rows(), x.columns(), labels.iter().filter(|&&label| label).count()), (4_000, 114, 554));
    Some((x, labels, names))
}

/// Figures of one fold.
#[derive(Copy, Clone, Default, Debug)]
struct Figures {
    auroc: f64,
    auprc: f64,
    min_se_ppv: f64,
    seconds: f64,
}

/// Fits as `crossval` does (of the other folds a fifth is for threshold and calibration) and
/// scores a fold.
fn judge(spec: &FitSpec, x: &Matrix, labels: &[bool], folds: &Folds, fold: usize) -> Figures {
    let part = |rows: &[usize]| (x.pick(rows), rows.iter().map(|&row| labels[row]).collect::<Vec<bool>>());
    let kept = folds.kept(fold);
    let (_, outcomes) = part(&kept);
    let inner = Folds::new(&outcomes, None, 5, 3);
    let of = |rows: Vec<usize>| rows.into_iter().map(|row| kept[row]).collect::<Vec<_>>();
    let ((train, y), (tuning, tuning_y)) = (part(&of(inner.kept(0))), part(&of(inner.held(0))));
    let (held, held_y) = part(&folds.held(fold));
    let begin = Instant::now();
    let bundle = Bundle::fit(spec.clone(), &train, &y, &tuning, &tuning_y).unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    let mut risks = Vec::new();
    bundle.score(held.values(), &mut risks).unwrap();
    let mut ranked: Vec<(f64, bool)> = risks.into_iter().zip(held_y).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = ranked.iter().filter(|row| row.1).count() as f64;
    let (mut found, mut wins, mut precision) = (0.0, 0.0, 0.0);
    for (i, (_, label)) in ranked.iter().enumerate() {
        if *label {
            found += 1.0;
            precision += found / (i as f64 + 1.0);
        } else {
            wins += found;
        }
    }
    let alerts = ranked.iter().filter(|row| row.0 >= bundle.threshold());
    let (count, right) = (alerts.clone().count() as f64, alerts.filter(|row| row.1).count() as f64);
    Figures {
        auroc: wins / positives / (ranked.len() as f64 - positives),
        auprc: precision / positives,
        min_se_ppv: (right / positives).min(if count > 0.0 { right / count } else { 0.0 }),
        seconds,
    }
}

/// Mean and standard deviation over folds, as text.
fn spread(folds: &[Figures], get: fn(&Figures) -> f64) -> String {
    let count = folds.len() as f64;
    let mean = folds.iter().map(get).sum::<f64>() / count;
    let squares: f64 = folds.iter().map(|fold| (get(fold) - mean).powi(2)).sum();
    format!("{mean:.4} ± {:.4}", (squares / (count - 1.0)).sqrt())
}

#[test]
#[ignore = "minutes of fitting"]
fn families_on_set_a() {
    let Some((x, labels, names)) = set_a() else { return };
    let only = std::env::var("AUSCULT_FAMILIES").unwrap_or_default();
    let asked = |family: &Family| only.is_empty() || only.split(',').any(|word| word == family.as_str());
    // These columns have no hours, no bedside score and no texts, and nobody brought a model.
    let able =
        |family: &Family| !matches!(family, Family::Gru | Family::Cnn | Family::Bedside | Family::Text | Family::Onnx);
    for family in Family::ALL.into_iter().filter(able).filter(asked) {
        let spec = FitSpec::new(family, "set_a", names.clone(), "spec");
        let mut all = Vec::new();
        for seed in [1, 2] {
            let folds = Folds::new(&labels, None, 5, seed);
            all.extend((0..5).map(|fold| judge(&spec, &x, &labels, &folds, fold)));
        }
        println!(
            "{family}: AUROC {}, AUPRC {}, min(Se,+P) {}, seconds {}",
            spread(&all, |f| f.auroc),
            spread(&all, |f| f.auprc),
            spread(&all, |f| f.min_se_ppv),
            spread(&all, |f| f.seconds),
        );
        assert!(all.iter().all(|fold| fold.auroc > 0.75), "{family}: {all:?}");
    }
}

/// What is lost, or won, with the most useful columns alone.
#[test]
#[ignore = "minutes of fitting"]
fn selected_on_set_a() {
    let Some((x, labels, names)) = set_a() else { return };
    let folds = Folds::new(&labels, None, 5, 1);
    for family in [Family::Logistic, Family::Forest, Family::Boosting, Family::Mlp, Family::Knn, Family::Bayes] {
        for most in [None, Some(80), Some(40), Some(20), Some(10)] {
            let select = most.map(|most| Select { rare: Some(10), most: Some(most) });
            let spec = FitSpec { select, ..FitSpec::new(family, "set_a", names.clone(), "spec") };
            let all: Vec<Figures> = (0..5).map(|fold| judge(&spec, &x, &labels, &folds, fold)).collect();
            let auroc = spread(&all, |f| f.auroc);
            println!("{family}, {most:?} columns: AUROC {auroc}, seconds {}", spread(&all, |f| f.seconds));
            assert!(all.iter().all(|fold| fold.auroc > 0.7), "{family}: {all:?}");
        }
    }
}

/// How far what the boosting's space holds is apart, and where the defaults stand in it.
#[test]
#[ignore = "minutes of fitting"]
fn boosting_drawn_on_set_a() {
    let Some((x, labels, names)) = set_a() else { return };
    let trials = std::env::var("AUSCULT_TRIALS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let folds = [1, 2].map(|seed| Folds::new(&labels, None, 5, seed));
    let own = FitSpec::new(Family::Boosting, "set_a", names, "spec");
    let spec = |trial: u64| match trial {
        0 => own.clone(),
        trial => FitSpec { params: own.params.drawn(own.family, x.columns(), 0, trial), ..own.clone() },
    };
    let jobs: Vec<(u64, usize)> = (0..trials).flat_map(|trial| (0..10).map(move |fold| (trial, fold))).collect();
    let work = |&(trial, fold): &(u64, usize)| judge(&spec(trial), &x, &labels, &folds[fold / 5], fold % 5);
    let figures = side_by_side(at_once(&x), &jobs, work, &mut |_, _| {});
    let mut told: Vec<String> = figures
        .chunks(10)
        .zip(0..)
        .map(|(folds, trial)| {
            let told = serde_json::to_string(&spec(trial).params.boosting).unwrap();
            format!("AUROC {}, AUPRC {}, trial {trial}: {told}", spread(folds, |f| f.auroc), spread(folds, |f| f.auprc))
        })
        .collect();
    told.sort();
    told.iter().for_each(|line| println!("{line}"));
    assert_eq!(told.len() as u64, trials);
}
