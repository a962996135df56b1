//! Figures of a task whose outcome is one of several classes.

use serde::Serialize;

use super::Scored;
use super::bootstrap::{Interval, bootstrap};
use super::calibration::CLIP;
use super::figures::{Figures, Ranked};
use super::sums::mean;
use crate::events::SubjectId;

/// Figures of a model that gives a probability a class.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct ClassFigures {
    /// Rows.
    pub n: usize,
    /// Subjects.
    pub subjects: usize,
    /// Of each class against the rest, in the order of the task.
    pub classes: Vec<OneClass>,
    /// Mean of the classes' AUROC, of those that have one.
    pub macro_auroc: Option<f64>,
    /// Its interval; a replicate that lacks one of these classes counts for nothing.
    pub macro_auroc_interval: Interval,
    /// The same mean, each class counting as often as it occurs.
    pub weighted_auroc: Option<f64>,
    /// Mean negative logarithm of the probability given to the true class; one below 1e-9 counts as 1e-9.
    pub log_loss: Option<f64>,
    /// Mean over rows of the squared differences summed over classes (Brier 1950): 0 to 2.
    pub brier: Option<f64>,
    /// Share of rows whose likeliest class is the true one; of equally likely ones the first counts.
    pub accuracy: Option<f64>,
    /// Mean of the sensitivities of the classes that occur.
    pub balanced_accuracy: Option<f64>,
    /// By how much accuracy exceeds that of chance with the same shares (Cohen 1960): 1 is perfect, 0 is chance; `None`
    /// where truth and likeliest class are one and the same class in all rows.
    pub kappa: Option<f64>,
    /// Counts of rows: one line a true class, in it one a likeliest class, both in the order of the task.
    pub confusion: Vec<Vec<usize>>,
    /// Why it has no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_none: Option<&'static str>,
}

/// Figures of one class against the rest.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct OneClass {
    /// Its name.
    pub name: String,
    /// Rows whose true class it is.
    pub n: usize,
    /// Area under the receiver operating characteristic.
    pub auroc: Option<f64>,
    /// Average precision; the rarer the class, the lower for the same model.
    pub auprc: Option<f64>,
    /// Mean squared difference of its probability and whether it was so.
    pub brier: Option<f64>,
    /// Expected calibration error over 10 bins of equal width.
    pub ece: Option<f64>,
}

impl ClassFigures {
    /// Of rows in any order: `probabilities` holds one a class for each row, row after row; `truth`: the place of each
    /// row's class in `names`. The same for the same rows in any order and `seed`.
    pub fn of(
        names: &[String],
        probabilities: &[f64],
        truth: &[usize],
        subjects: &[SubjectId],
        seed: u64,
    ) -> ClassFigures {
        let (n, k) = (truth.len(), names.len());
        if let Some(why) = unfit(k, probabilities, truth, subjects) {
            return ClassFigures { n, why_none: Some(why), ..ClassFigures::default() };
        }
        let ranked: Vec<Ranked> = (0..k)
            .map(|class| {
                let row = |i: usize| Scored {
                    subject: subjects[i],
                    risk: probabilities[i * k + class],
                    outcome: truth[i] == class,
                };
                Ranked::new(&(0..n).map(row).collect::<Vec<Scored>>())
            })
            .collect();
        let mut confusion = vec![vec![0_usize; k]; k];
        for (row, truth) in probabilities.chunks_exact(k).zip(truth) {
            confusion[*truth][likeliest(row)] += 1;
        }
        let occurs = |class: usize| confusion[class].iter().sum::<usize>();
        let one = |(class, name): (usize, &String)| {
            let figures = Figures::of(&ranked[class].rows, 0.5, |_| 1);
            OneClass {
                name: name.clone(),
                n: occurs(class),
                auroc: figures.auroc,
                auprc: figures.auprc,
                brier: figures.brier,
                ece: figures.ece,
            }
        };
        let classes: Vec<OneClass> = names.iter().enumerate().map(one).collect();
        let judged: Vec<&Ranked> =
            classes.iter().zip(&ranked).filter(|of| of.0.auroc.is_some()).map(|of| of.1).collect();
        let subjects = ranked[0].subjects;
        let macro_auroc_interval = bootstrap(n * judged.len(), subjects, seed, |times| {
            let area = |of: &&Ranked| Figures::of(&of.rows, 0.5, |i| times[of.of[i]]).auroc;
            mean(judged.iter().map(area).collect::<Option<Vec<f64>>>()?)
        });
        let areas = || classes.iter().filter_map(|of| Some((of.n as f64, of.auroc?)));
        let counted: f64 = areas().map(|(n, _)| n).sum();
        let loss = |(row, truth): (&[f64], &usize)| -row[*truth].max(CLIP).ln();
        let squares = |(row, truth): (&[f64], &usize)| {
            let square = |(class, p): (usize, &f64)| (p - f64::from(u8::from(class == *truth))).powi(2);
            row.iter().enumerate().map(square).sum::<f64>()
        };
        let rows = || probabilities.chunks_exact(k).zip(truth);
        let occurring = || (0..k).filter(|class| occurs(*class) > 0);
        let right = (0..k).map(|class| confusion[class][class]).sum::<usize>() as f64;
        ClassFigures {
            n,
            subjects,
            macro_auroc: mean(areas().map(|(_, area)| area).collect()),
            macro_auroc_interval,
            weighted_auroc: (counted > 0.0).then(|| areas().map(|(n, area)| n * area).sum::<f64>() / counted),
            log_loss: mean(rows().map(loss).collect()),
            brier: mean(rows().map(squares).collect()),
            accuracy: Some(right / n as f64),
            balanced_accuracy: mean(occurring().map(|c| confusion[c][c] as f64 / occurs(c) as f64).collect()),
            kappa: kappa(&confusion),
            classes,
            confusion,
            why_none: None,
        }
    }
}

/// Why there are no figures of these rows, if so.
fn unfit(k: usize, probabilities: &[f64], truth: &[usize], subjects: &[SubjectId]) -> Option<&'static str> {
    if truth.is_empty() {
        Some("no rows")
    } else if truth.len() != subjects.len() || truth.len().checked_mul(k) != Some(probabilities.len()) {
        Some("probabilities, classes and subjects are not of the same rows")
    } else if truth.iter().any(|class| *class >= k) {
        Some("a row's class is none of the task's")
    } else if probabilities.iter().any(|p| !(0.0..=1.0).contains(p)) {
        Some("a probability is not in 0 to 1")
    } else {
        None
    }
}

/// The first of the likeliest classes of a row that has one.
fn likeliest(row: &[f64]) -> usize {
    (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
}

fn kappa(confusion: &[Vec<usize>]) -> Option<f64> {
    let line = |class: usize| confusion[class].iter().sum::<usize>() as f64;
    let column = |class: usize| confusion.iter().map(|line| line[class]).sum::<usize>() as f64;
    let classes = || 0..confusion.len();
    let n: f64 = classes().map(line).sum();
    let right: f64 = classes().map(|class| confusion[class][class] as f64).sum();
    let chance: f64 = classes().map(|class| line(class) * column(class)).sum();
    (n * n > chance).then(|| (n * right - chance) / (n * n - chance))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::evaluate;
    use super::super::tests::near;
    use super::*;

    fn names(k: usize) -> Vec<String> {
        (0..k).map(|class| format!("class {class}")).collect()
    }

    fn each_its_own(n: usize) -> Vec<SubjectId> {
        (0..n).map(|i| SubjectId(i as i64)).collect()
    }

    fn of(rows: &[([f64; 3], usize)]) -> ClassFigures {
        let probabilities: Vec<f64> = rows.iter().flat_map(|row| row.0).collect();
        let truth: Vec<usize> = rows.iter().map(|row| row.1).collect();
        ClassFigures::of(&names(3), &probabilities, &truth, &each_its_own(rows.len()), 3)
    }

    #[test]
    fn figures_by_hand() {
        // The last row is a tie, which the first class wins; the third class never occurs.
        let found = of(&[([0.7, 0.2, 0.1], 0), ([0.3, 0.6, 0.1], 0), ([0.1, 0.9, 0.0], 1), ([0.4, 0.4, 0.2], 1)]);
        assert_eq!(found.confusion, [[1, 1, 0], [1, 1, 0], [0, 0, 0]]);
        assert!(near(found.accuracy, 0.5) && near(found.balanced_accuracy, 0.5) && near(found.kappa, 0.0));
        // Of class 0: 0.7 and 0.3 against 0.1 and 0.4; of class 1: 0.9 and 0.4 against 0.2 and 0.6.
        assert!(near(found.classes[0].auroc, 0.75) && near(found.classes[1].auroc, 0.75));
        assert_eq!((found.classes[2].auroc, found.classes[2].n, found.classes[0].n), (None, 0, 2));
        assert!(near(found.macro_auroc, 0.75) && near(found.weighted_auroc, 0.75));
        let loss = -(0.7_f64.ln() + 0.3_f64.ln() + 0.9_f64.ln() + 0.4_f64.ln()) / 4.0;
        assert!(near(found.log_loss, loss), "{found:?}");
        let squares = (0.09 + 0.04 + 0.01) + (0.49 + 0.36 + 0.01) + (0.01 + 0.01) + (0.16 + 0.36 + 0.04);
        assert!(near(found.brier, squares / 4.0), "{found:?}");
        assert!(near(of(&[([0.0, 1.0, 0.0], 0), ([0.0, 1.0, 0.0], 1)]).log_loss, 1e-9_f64.ln() / -2.0));
    }

    #[test]
    fn averages_differ_where_classes_are_rare() {
        let mut rows = vec![([0.8, 0.1, 0.1], 0); 6];
        rows.extend([([0.1, 0.8, 0.1], 1), ([0.1, 0.9, 0.0], 1), ([0.1, 0.9, 0.0], 2), ([0.0, 0.6, 0.4], 2)]);
        let found = of(&rows);
        let areas: Vec<f64> = found.classes.iter().map(|class| class.auroc.unwrap()).collect();
        assert!(near(found.macro_auroc, areas.iter().sum::<f64>() / 3.0));
        assert!(near(found.weighted_auroc, (6.0 * areas[0] + 2.0 * areas[1] + 2.0 * areas[2]) / 10.0));
        assert!(found.weighted_auroc > found.macro_auroc);
        let [low, high] = found.macro_auroc_interval.ends.unwrap();
        assert!(low <= found.macro_auroc.unwrap() && found.macro_auroc.unwrap() <= high && low < high);
    }

    #[test]
    fn what_does_not_exist_is_none() {
        let refused = |found: ClassFigures, why: &str| {
            assert_eq!(found.why_none, Some(why));
            let figures = [found.macro_auroc, found.weighted_auroc, found.log_loss, found.brier, found.kappa];
            assert_eq!((figures, found.macro_auroc_interval.ends), ([None; 5], None));
        };
        refused(of(&[]), "no rows");
        refused(of(&[([0.5, f64::NAN, 0.5], 0)]), "a probability is not in 0 to 1");
        refused(of(&[([0.5, 1.5, 0.5], 0)]), "a probability is not in 0 to 1");
        refused(of(&[([0.5, 0.5, 0.0], 3)]), "a row's class is none of the task's");
        let short = ClassFigures::of(&names(3), &[0.5; 5], &[0, 1], &each_its_own(2), 0);
        refused(short, "probabilities, classes and subjects are not of the same rows");
        refused(ClassFigures::of(&[], &[], &[0], &each_its_own(1), 0), "a row's class is none of the task's");
        let one = of(&[([1.0, 0.0, 0.0], 0), ([0.9, 0.1, 0.0], 0)]);
        assert_eq!((one.macro_auroc, one.weighted_auroc, one.kappa, one.accuracy), (None, None, None, Some(1.0)));
        assert_eq!((one.macro_auroc_interval.ends, one.balanced_accuracy, one.why_none), (None, Some(1.0), None));
    }

    #[test]
    fn the_interval_draws_subjects() {
        let rows: Vec<([f64; 3], usize)> = (0..60_usize)
            .map(|i| {
                let p = (i * 37 % 60) as f64 / 60.0;
                ([p, (1.0 - p) / 2.0, (1.0 - p) / 2.0], if i * 37 % 60 > i { 0 } else { 1 + i % 2 })
            })
            .collect();
        let once = of(&rows);
        let (copies, n) = (rows.repeat(5), rows.len());
        let probabilities: Vec<f64> = copies.iter().flat_map(|row| row.0).collect();
        let truth: Vec<usize> = copies.iter().map(|row| row.1).collect();
        let many = ClassFigures::of(&names(3), &probabilities, &truth, &each_its_own(n).repeat(5), 3);
        let (a, b) = (once.macro_auroc_interval.ends.unwrap(), many.macro_auroc_interval.ends.unwrap());
        assert!((a[0] - b[0]).abs() < 1e-9 && (a[1] - b[1]).abs() < 1e-9 && a[0] < a[1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Of two classes each has the figures of the binary task.
        #[test]
        fn two_classes_are_the_binary_task(data in prop::collection::vec((0u8..9, any::<bool>()), 1..40)) {
            let rows: Vec<(f64, bool)> = data.iter().map(|(p, y)| (f64::from(*p) / 8.0, *y)).collect();
            let binary = evaluate(&super::super::tests::rows(&rows), 0.5, 1);
            let probabilities: Vec<f64> = rows.iter().flat_map(|row| [1.0 - row.0, row.0]).collect();
            let truth: Vec<usize> = rows.iter().map(|row| usize::from(row.1)).collect();
            let found = ClassFigures::of(&names(2), &probabilities, &truth, &each_its_own(rows.len()), 1);
            let class = &found.classes[1];
            prop_assert_eq!((class.auroc, class.auprc, class.brier), (binary.auroc, binary.auprc, binary.brier));
            prop_assert!(binary.auroc.map_or(found.macro_auroc.is_none(), |area| near(found.macro_auroc, area)));
            prop_assert!(near(found.brier, 2.0 * binary.brier.unwrap()));
            prop_assert!(near(found.log_loss, binary.log_loss.unwrap()));
        }

        /// Another order of rows changes no bit; another order of classes no figure.
        #[test]
        fn order_does_not_matter(data in prop::collection::vec((0u8..6, 0u8..6, 0usize..3, 0i64..9), 1..30)) {
            let row = |(a, b, truth, subject): &(u8, u8, usize, i64)| {
                let (a, b) = (f64::from(*a), f64::from(*b));
                ([a / 10.0, b / 10.0, 1.0 - (a + b) / 10.0], *truth, SubjectId(*subject))
            };
            let mut rows: Vec<([f64; 3], usize, SubjectId)> = data.iter().map(row).collect();
            let figures = |rows: &[([f64; 3], usize, SubjectId)]| {
                let probabilities: Vec<f64> = rows.iter().flat_map(|row| row.0).collect();
                let truth: Vec<usize> = rows.iter().map(|row| row.1).collect();
                let subjects: Vec<SubjectId> = rows.iter().map(|row| row.2).collect();
                ClassFigures::of(&names(3), &probabilities, &truth, &subjects, 5)
            };
            let found = figures(&rows);
            rows.reverse();
            prop_assert_eq!(&figures(&rows), &found);
            for row in &mut rows {
                row.0.rotate_left(1);
                row.1 = (row.1 + 2) % 3;
            }
            let turned = figures(&rows);
            for class in 0..3 {
                prop_assert_eq!(turned.classes[class].auroc, found.classes[(class + 1) % 3].auroc);
            }
            prop_assert!(found.macro_auroc.map_or(turned.macro_auroc.is_none(), |area| near(turned.macro_auroc, area)));
            prop_assert!(near(turned.log_loss, found.log_loss.unwrap()) && near(turned.brier, found.brier.unwrap()));
        }
    }
}
