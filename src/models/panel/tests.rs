use super::super::random::Random;
use super::super::tests::{FAMILIES, assert_alike_dealt_and_alone, bits, score};
use super::super::{Bundle, FitSpec, Matrix, Scratch, Select};
use super::fit::answer;
use super::*;

const WIDTH: usize = 4;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn classes() -> Question {
    Question::Class { names: names(&["home", "ward", "died"]), watched: 2 }
}

fn times() -> Question {
    Question::Time { names: names(&["6h", "12h", "24h"]), hours: vec![6.0, 12.0, 24.0], watched: 1 }
}

fn amounts(below: bool) -> Question {
    Question::Amount { cuts: 9, level: 2.0, below }
}

/// Rows with gaps, drawn anew for each seed.
fn rows(seed: u64, count: usize) -> (Matrix, Random) {
    let mut random = Random::new(seed);
    let mut x = Matrix::new(WIDTH);
    for _ in 0..count {
        let mut row: Vec<f32> = (0..WIDTH).map(|_| random.unit() as f32 * 2.0 - 1.0).collect();
        if random.unit() < 0.2 {
            row[3] = f32::NAN;
        }
        x.push_row(&row).unwrap();
    }
    (x, random)
}

/// What becomes of a row under a question, and the truth behind it: the probability of what is
/// watched, or the expected amount.
fn become_of(question: &Question, row: &[f32], random: &mut Random) -> (Target, f64) {
    let at = |i: usize| f64::from(row[i]);
    match question {
        Question::Class { .. } => {
            let odds = [1.0f64, (2.0 * at(0)).exp(), (2.0 * at(1) - 0.5).exp()];
            let sum: f64 = odds.iter().sum();
            let mut drawn = random.unit() * sum;
            let class = odds.iter().position(|odd| {
                drawn -= odd;
                drawn < 0.0
            });
            (Target::Class(class.unwrap_or(2)), odds[2] / sum)
        }
        Question::Time { .. } => {
            // Happens at a constant rate; is lost from sight at another, whatever the row.
            let rate = (at(0) - 3.0).exp();
            let happens = -(1.0 - random.unit()).ln() / rate;
            let lost = -(1.0 - random.unit()).ln() / 0.03;
            let target = Target::Time { hours: happens.min(lost), happened: happens <= lost };
            (target, 1.0 - (-rate * 12.0).exp())
        }
        Question::Amount { .. } => {
            let expected = 2.0 + 2.0 * at(0) - at(1);
            (Target::Amount(expected + random.unit() * 2.0 - 1.0), expected)
        }
    }
}

struct Problem {
    x: Matrix,
    targets: Vec<Target>,
    labels: Vec<bool>,
    truth: Vec<f64>,
}

fn problem(question: &Question, seed: u64, count: usize) -> Problem {
    let (x, mut random) = rows(seed, count);
    let (targets, truth): (Vec<Target>, Vec<f64>) =
        (0..count).map(|row| become_of(question, x.row(row), &mut random)).unzip();
    let labels = targets.iter().map(|target| question.watched(*target).unwrap_or(false)).collect();
    Problem { x, targets, labels, truth }
}

fn fit(question: &Question, family: Family, rows: usize) -> Result<Bundle, ModelError> {
    fit_on(question, family, rows, None)
}

fn fit_on(question: &Question, family: Family, rows: usize, select: Option<Select>) -> Result<Bundle, ModelError> {
    let (train, tuning) = (problem(question, 1, rows), problem(question, 2, rows));
    let mut spec = FitSpec::new(family, "panel", names(&["a", "b", "c", "d"]), "spec");
    spec.params.boosting.rounds = 60;
    spec.params.boosting.eta = 0.1;
    spec.params.hazard = spec.params.boosting.clone();
    spec.params.forest.trees = 40;
    spec.params.svm.landmarks = 100;
    spec.params.mlp.networks = 1;
    spec.params.knn.rows = 200;
    spec.params.bedside.feature = "a".to_owned();
    spec.params.onnx.file = "a.onnx".to_owned();
    spec.params.stack.members = vec![Family::Logistic, Family::Boosting];
    spec.params.stack.folds = 2;
    spec.select = select;
    spec.panel = Some(PanelSpec { question: question.clone(), train: train.targets, tuning: tuning.targets });
    Bundle::fit(spec, &train.x, &train.labels, &tuning.x, &tuning.labels)
}

/// What is told of rows beside the risk, row after row.
fn outputs(bundle: &Bundle, rows: &[f32]) -> Vec<f64> {
    let mut out = Vec::new();
    bundle.assess(rows, &mut Scratch::default(), &mut Vec::new(), &mut out).unwrap();
    out
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    sum / count
}

#[test]
fn classes_share_out_the_probability_as_it_is() {
    let question = classes();
    let bundle = fit(&question, Family::Logistic, 4_000).unwrap();
    assert_eq!(bundle.output_names(), ["home", "ward", "died"]);
    let fresh = problem(&question, 3, 2_000);
    let risks = score(&bundle, fresh.x.values());
    for (row, risk) in risks.iter().enumerate() {
        let all = outputs(&bundle, fresh.x.row(row));
        assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(all[2].to_bits(), risk.to_bits());
    }
    let off = mean(risks.iter().zip(&fresh.truth).map(|(risk, truth)| (risk - truth).abs()));
    assert!(off < 0.04, "{off}");
}

/// A third of the rows is lost before 12 h; who leaves them out or takes them for safe is wrong
/// by more than a tenth.
#[test]
fn who_was_lost_from_sight_does_not_bend_the_incidence() {
    let question = times();
    let bundle = fit(&question, Family::Logistic, 6_000).unwrap();
    let fresh = problem(&question, 3, 2_000);
    let lost = fresh.targets.iter().filter(|target| question.watched(**target).is_none()).count();
    assert!(lost > 400, "{lost}");
    let risks = score(&bundle, fresh.x.values());
    let (told, truth) = (mean(risks.iter().copied()), mean(fresh.truth.iter().copied()));
    assert!((told - truth).abs() < 0.03 * (1.0 + truth), "{told} {truth}");
    for (row, risk) in risks.iter().enumerate() {
        let all = outputs(&bundle, fresh.x.row(row));
        assert!(all.windows(2).all(|pair| pair[0] <= pair[1]) && all[2] <= 1.0);
        assert_eq!(all[1].to_bits(), risk.to_bits());
    }
}

#[test]
fn amounts_have_a_mean_and_quantiles_that_cover() {
    let question = amounts(false);
    let bundle = fit(&question, Family::Boosting, 4_000).unwrap();
    assert_eq!(bundle.output_names()[..4], ["mean", "p10", "p50", "p90"]);
    let reaches = bundle.output_names().iter().position(|name| name == ">= 2").unwrap();
    let fresh = problem(&question, 3, 2_000);
    let told: Vec<Vec<f64>> = (0..2_000).map(|row| outputs(&bundle, fresh.x.row(row))).collect();
    let off = mean(told.iter().zip(&fresh.truth).map(|(told, truth)| (told[0] - truth).abs()));
    assert!(off < 0.4, "{off}");
    let within = |(told, target): (&Vec<f64>, &Target)| {
        let Target::Amount(amount) = target else { return false };
        assert!(told[1] <= told[2] && told[2] <= told[3]);
        (told[1]..=told[3]).contains(amount)
    };
    let covered = told.iter().zip(&fresh.targets).filter(|both| within(*both)).count() as f64 / 2_000.0;
    assert!((covered - 0.8).abs() < 0.08, "{covered}");
    let share = mean(fresh.labels.iter().map(|label| f64::from(u8::from(*label))));
    let risks = score(&bundle, fresh.x.values());
    assert!((mean(risks.iter().copied()) - share).abs() < 0.03);
    // What is watched from the other side is the rest.
    let below = fit(&amounts(true), Family::Boosting, 4_000).unwrap();
    let others = score(&below, fresh.x.values());
    assert!(told.iter().zip(&risks).all(|(told, risk)| told[reaches].to_bits() == risk.to_bits()));
    assert!(risks.iter().zip(&others).all(|(risk, other)| (risk + other - 1.0).abs() < 1e-12));
}

#[test]
fn invariant_10_holds_for_every_question_and_family() {
    let hostile = [[f32::NAN; WIDTH], [f32::MAX; WIDTH], [f32::NEG_INFINITY; WIDTH], [0.0; WIDTH]];
    for question in [classes(), times(), amounts(false), amounts(true)] {
        let fresh = problem(&question, 3, 30);
        // A bag of words has no terms to read here.
        for family in FAMILIES.iter().copied().filter(|family| *family != Family::Text) {
            let bundle = fit(&question, family, 400).unwrap();
            let loaded = Bundle::from_files(&bundle.to_files().unwrap().0).unwrap();
            let batch = score(&bundle, fresh.x.values());
            assert_eq!(bits(&batch), bits(&score(&loaded, fresh.x.values())), "{family}");
            let (told, width) = (outputs(&bundle, fresh.x.values()), bundle.output_names().len());
            assert_eq!(told.len(), batch.len() * width);
            let rows = (0..fresh.x.rows()).map(|row| fresh.x.row(row)).chain(hostile.iter().map(|row| &row[..]));
            for (i, row) in rows.enumerate() {
                let explanation = bundle.explain(row).unwrap();
                let sum = explanation.contributions.iter().fold(explanation.base, |sum, part| sum + part);
                assert!((sum - explanation.risk).abs() < 1e-12, "{family} {question:?}: {sum} {}", explanation.risk);
                assert_eq!(explanation.risk.to_bits(), score(&bundle, row)[0].to_bits());
                assert!(i >= batch.len() || batch[i].to_bits() == explanation.risk.to_bits(), "alone or not");
                let (alone, again) = (outputs(&bundle, row), outputs(&loaded, row));
                assert_eq!(bits(&alone), bits(&again));
                assert!(alone.iter().all(|output| output.is_finite()), "{family} {question:?} {alone:?}");
                assert!(i >= batch.len() || bits(&told[i * width..][..width]) == bits(&alone), "alone or not");
            }
        }
    }
}

/// Such a model does not take rows as they are.
#[test]
fn a_panel_of_some_columns_tells_of_many_rows_what_it_tells_of_each() {
    let select = Some(Select { rare: None, most: Some(2) });
    let bundle = fit_on(&classes(), Family::Logistic, 400, select).unwrap();
    assert_eq!(bundle.card.selected.as_ref().unwrap().kept().len(), 2);
    let x = problem(&classes(), 3, 150).x;
    let alone: Vec<f64> = (0..150).flat_map(|row| outputs(&bundle, x.row(row))).collect();
    assert_eq!((alone.len(), bits(&outputs(&bundle, x.values()))), (450, bits(&alone)));
    let watched: Vec<f64> = alone.chunks(3).map(|told| told[2]).collect();
    assert_eq!(bits(&score(&bundle, x.values())), bits(&watched));
    assert_alike_dealt_and_alone(&bundle, &problem(&classes(), 3, 3_000).x);
}

#[test]
fn what_is_watched_is_told_by_hand() {
    let time = |hours, happened| times().watched(Target::Time { hours, happened });
    assert_eq!([time(12.0, true), time(12.1, true), time(3.0, true)], [Some(true), Some(false), Some(true)]);
    assert_eq!([time(11.9, false), time(12.0, false), time(90.0, false)], [None, Some(false), Some(false)]);
    let amount = |below, amount| amounts(below).watched(Target::Amount(amount));
    assert_eq!([amount(false, 2.0), amount(false, 1.9), amount(true, 2.0)], [Some(true), Some(false), Some(false)]);
    assert_eq!(classes().watched(Target::Class(2)), Some(true));
    assert_eq!(classes().watched(Target::Amount(2.0)), None);
}

#[test]
fn heads_are_asked_of_those_who_came_so_far() {
    let heard = |hours, happened| {
        (0..3).map(|head| answer(&times(), None, head, Target::Time { hours, happened })).collect::<Vec<_>>()
    };
    assert_eq!(heard(0.0, true), [Some(true), None, None]);
    assert_eq!(heard(6.0, true), [Some(true), None, None]);
    assert_eq!(heard(6.5, true), [Some(false), Some(true), None]);
    assert_eq!(heard(12.0, false), [Some(false), Some(false), None]);
    assert_eq!(heard(13.0, false), [Some(false), Some(false), None]);
    assert_eq!(heard(30.0, true), [Some(false), Some(false), Some(false)]);
    assert_eq!(heard(5.0, false), [None, None, None]);
}

#[test]
fn the_scale_of_amounts_by_hand() {
    let amounts: Vec<Target> = [3.0, 1.0, 2.0, 4.0, 10.0, 6.0, 1.0, 1.0].map(Target::Amount).to_vec();
    let question = Question::Amount { cuts: 3, level: 5.0, below: false };
    let scale = Scale::of(&question, &amounts).unwrap();
    // Sorted: 1 1 1 2 3 4 6 10; quarters at 1, 3 and 6, of which 1 parts nothing.
    assert_eq!(scale.cuts, [3.0, 5.0, 6.0]);
    assert_eq!(scale.means, [1.25, 3.5, 5.5, 8.0]);
    assert_eq!(scale.ends, [1.0, 10.0]);
    let mut told = Vec::new();
    // Out of order: rearranged to 0.75, 0.5, 0.25.
    scale.tell(vec![0.5, 0.75, 0.25], &mut told);
    assert_eq!(told[0], 1.25 + 0.75 * 2.25 + 0.5 * 2.0 + 0.25 * 2.5);
    // 0.9 lies between 1 at 1.0 and 0.75 at 3.0; 0.1 between 0.25 at 6.0 and 0 at 10.0.
    let want = [1.0 + 2.0 * 0.1 / 0.25, 5.0, 6.0 + 4.0 * 0.15 / 0.25];
    assert!(told[1..].iter().zip(want).all(|(told, want)| (told - want).abs() < 1e-12), "{told:?}");
}

#[test]
fn a_head_with_nothing_to_tell_apart_is_named() {
    let question = Question::Class { names: names(&["home", "ward", "died", "moon"]), watched: 2 };
    let error = fit(&question, Family::Logistic, 200).unwrap_err().to_string();
    assert!(error.contains("'moon' holds for 0 of the 200 training rows"), "{error}");
    let question = Question::Amount { cuts: 4, level: 99.0, below: false };
    let error = fit(&question, Family::Logistic, 200).unwrap_err().to_string();
    assert!(error.contains("labels are all false"), "what is watched is told first: {error}");
    assert!(fit(&times(), Family::Onnx, 200).unwrap_err().to_string().contains("one a head"));
}

#[test]
fn a_question_that_cannot_be_asked_is_refused() {
    for wrong in [
        Question::Class { names: names(&["home"]), watched: 0 },
        Question::Class { names: names(&["home", "home"]), watched: 0 },
        Question::Class { names: names(&["home", "ward"]), watched: 2 },
        Question::Amount { cuts: 0, level: 1.0, below: false },
        Question::Amount { cuts: 9, level: f64::NAN, below: false },
        Question::Time { names: names(&["a"]), hours: vec![0.0], watched: 0 },
        Question::Time { names: names(&["a", "b"]), hours: vec![6.0, 6.0], watched: 0 },
        Question::Time { names: names(&["a"]), hours: vec![6.0, 7.0], watched: 0 },
        Question::Time { names: names(&["a", "b"]), hours: vec![6.0, f64::INFINITY], watched: 0 },
        Question::Time { names: Vec::new(), hours: Vec::new(), watched: 0 },
    ] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
}

#[test]
fn a_damaged_panel_is_refused() {
    for question in [classes(), times(), amounts(false)] {
        let bundle = fit(&question, Family::Logistic, 300).unwrap();
        let (files, _) = bundle.to_files().unwrap();
        let text = String::from_utf8(files[MODEL].clone()).unwrap();
        let decode =
            |text: &str, question: &Question| Panel::decode(text.as_bytes(), WIDTH, Family::Logistic, question.clone());
        assert_eq!(decode(&text, &question).unwrap().encode().unwrap(), text.as_bytes());
        assert!(Panel::decode(text.as_bytes(), WIDTH + 1, Family::Logistic, question.clone()).is_err());
        assert!(Panel::decode(text.as_bytes(), WIDTH, Family::Forest, question.clone()).is_err());
        let refused = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            assert!(decode(&text.replacen(from, to, 1), &question).is_err(), "{from} to {to}");
        };
        refused(r#""columns":4"#, r#""columns":5"#);
        refused(r#""heads":["#, r#""hats":["#);
        refused(r#""family":"logistic""#, r#""family":"forest""#);
        let other = if question == classes() { times() } else { classes() };
        let fits = question != amounts(false) && text.matches("calibration").count() == 3;
        assert_eq!(decode(&text, &other).is_ok(), fits, "a panel of three heads can answer another such question");
        if question == amounts(false) {
            refused(r#""ends":["#, r#""ends":[1e9,"#);
            refused(r#""cuts":["#, r#""cuts":[1e9,"#);
            assert!(decode(&text, &Question::Amount { cuts: 9, level: 2.5, below: false }).is_err());
        }
    }
}
