//! Platt's and beta calibration: logistic regressions on one and on two functions of the log-odds.

use super::{Calibration, Labelled, sigmoid, smoothed, softplus};

/// Two columns and the target, 0 to 1.
type Point = ([f64; 2], f64);

/// Weights of the two columns and, last, the intercept.
type Weights = [f64; 3];

/// Platt scaling (1999). `None` where the margins do not rise with the outcome (a model no
/// better than chance on few rows): a negative slope would turn the model's order round.
pub(super) fn platt(rows: &[Labelled]) -> Option<Calibration> {
    let points: Vec<Point> = smoothed(rows).into_iter().map(|(z, target)| ([z, 0.0], target)).collect();
    let [slope, _, intercept] = regress(&points);
    Some(Calibration::Platt { slope, intercept }).filter(Calibration::is_sound)
}

/// Beta calibration (Kull, Silva Filho and Flach 2017) with all three parameters. `None` where
/// not even one of the two factors is positive.
///
/// The loss is convex: where the best weights are not allowed, the best allowed ones lie where
/// one factor is 0.
pub(super) fn beta(rows: &[Labelled]) -> Option<Calibration> {
    let targets = smoothed(rows);
    let fit = |used: [f64; 2]| {
        let column = |z: f64| {
            let [low, high] = beta_columns(z);
            [low * used[0], high * used[1]]
        };
        let points: Vec<Point> = targets.iter().map(|&(z, target)| (column(z), target)).collect();
        let [a, b, c] = regress(&points);
        let fitted = Calibration::Beta { a: a * used[0], b: b * used[1], c };
        fitted.is_sound().then(|| (loss(&points, [a, b, c]), fitted))
    };
    let best = fit([1.0, 1.0]).or_else(|| {
        let edges = [[1.0, 0.0], [0.0, 1.0]].into_iter().filter_map(fit);
        edges.min_by(|a, b| a.0.total_cmp(&b.0))
    });
    best.map(|(_, fitted)| fitted)
}

/// `ln p` and `-ln(1 - p)` of log-odds: the columns of beta calibration, finite for all of them.
pub(super) fn beta_columns(z: f64) -> [f64; 2] {
    let z = z.clamp(f64::MIN, f64::MAX);
    [-softplus(-z), softplus(z)]
}

fn margin(weights: Weights, x: [f64; 2]) -> f64 {
    weights[0] * x[0] + weights[1] * x[1] + weights[2]
}

/// The log loss of `weights`, summed.
fn loss(points: &[Point], weights: Weights) -> f64 {
    points.iter().map(|&(x, target)| softplus(margin(weights, x)) - target * margin(weights, x)).sum()
}

/// The weights of least log loss, by Newton's method with backtracking, as Lin, Lin and Weng
/// (2007) give it for Platt scaling. A column of zeros keeps the weight 0.
fn regress(points: &[Point]) -> Weights {
    let mean = points.iter().map(|point| point.1).sum::<f64>() / points.len() as f64;
    let mut weights = [0.0, 0.0, (mean / (1.0 - mean)).ln()];
    let mut current = loss(points, weights);
    for _ in 0..100 {
        let ([mut g0, mut g1, mut g2], mut h) = ([0.0; 3], [0.0; 6]);
        for &(x, target) in points {
            let p = sigmoid(margin(weights, x));
            let (d, w) = (p - target, p * (1.0 - p));
            (g0, g1, g2) = (g0 + x[0] * d, g1 + x[1] * d, g2 + d);
            let products = [x[0] * x[0], x[0] * x[1], x[0], x[1] * x[1], x[1], 1.0];
            h.iter_mut().zip(products).for_each(|(sum, product)| *sum += w * product);
        }
        let gradient = [g0, g1, g2];
        if gradient.iter().all(|g| g.abs() < 1e-9) {
            break;
        }
        let step = solve(h, gradient);
        let descent = -(step[0] * g0 + step[1] * g1 + step[2] * g2);
        let mut share = 1.0;
        let better = loop {
            let next = [0, 1, 2].map(|i| weights[i] - share * step[i]);
            let reached = loss(points, next);
            if reached < current + 1e-4 * share * descent {
                break Some((next, reached));
            }
            share /= 2.0;
            if share < 1e-10 {
                break None;
            }
        };
        let Some((next, reached)) = better else { break };
        (weights, current) = (next, reached);
    }
    weights
}

/// Solves the symmetric system of the upper triangle `h` by its cofactors.
fn solve(h: [f64; 6], g: [f64; 3]) -> [f64; 3] {
    let [a, b, c, d, e, f] = h;
    // A tiny ridge keeps it invertible where a column is constant or all zeros.
    let [a, d, f] = [a, d, f].map(|x| x * (1.0 + 1e-10) + 1e-12);
    let (aa, ab, ac) = (d * f - e * e, c * e - b * f, b * e - c * d);
    let (bb, bc, cc) = (a * f - c * c, b * c - a * e, a * d - b * b);
    let determinant = a * aa + b * ab + c * ac;
    [
        (aa * g[0] + ab * g[1] + ac * g[2]) / determinant,
        (ab * g[0] + bb * g[1] + bc * g[2]) / determinant,
        (ac * g[0] + bc * g[1] + cc * g[2]) / determinant,
    ]
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Random;
    use super::*;

    /// Rows whose labels a curve made.
    fn rows(seed: u64, count: usize, curve: impl Fn(f64) -> f64) -> Vec<Labelled> {
        let mut random = Random::new(seed);
        let mut row = || {
            let z = random.unit() * 8.0 - 4.0;
            (z, random.unit() < curve(z))
        };
        (0..count).map(|_| row()).collect()
    }

    #[test]
    fn platt_finds_the_line_that_made_the_labels() {
        let rows = rows(5, 20_000, |z| sigmoid(0.5 * z - 1.0));
        let Some(Calibration::Platt { slope, intercept }) = platt(&rows) else { panic!("none") };
        assert!((slope - 0.5).abs() < 0.03 && (intercept + 1.0).abs() < 0.05, "{slope} {intercept}");
    }

    #[test]
    fn beta_finds_the_curve_that_made_the_labels() {
        let want = Calibration::Beta { a: 0.5, b: 1.5, c: 0.3 };
        let rows = rows(6, 40_000, |z| want.of(z));
        let Some(Calibration::Beta { a, b, c }) = beta(&rows) else { panic!("none") };
        assert!((a - 0.5).abs() < 0.1 && (b - 1.5).abs() < 0.1 && (c - 0.3).abs() < 0.1, "{a} {b} {c}");
    }

    #[test]
    fn a_factor_that_would_be_negative_is_zero_and_the_others_fit_as_well_as_they_can() {
        // The risk falls towards low log-odds' end less than any positive factor allows.
        let rows = rows(7, 10_000, |z| sigmoid(1.5 * softplus(z) + 0.3 * softplus(-z) - 2.0));
        let Some(Calibration::Beta { a, b, c }) = beta(&rows) else { panic!("none") };
        assert!(a == 0.0 && b > 1.0, "{a} {b}");
        let points: Vec<Point> = smoothed(&rows).into_iter().map(|(z, t)| (beta_columns(z), t)).collect();
        for other in [[0.01, b, c], [0.0, b + 0.01, c], [0.0, b - 0.01, c], [0.0, b, c + 0.01], [0.0, b, c - 0.01]] {
            assert!(loss(&points, [a, b, c]) < loss(&points, other), "{other:?}");
        }
    }

    #[test]
    fn margins_that_fall_with_the_outcome_give_nothing() {
        let rows = [(3.0, false), (2.0, false), (1.0, false), (-1.0, true), (-2.0, true)];
        assert_eq!(platt(&rows), None);
        assert_eq!(beta(&rows), None);
    }

    #[test]
    fn equal_margins_and_perfect_ones_give_finite_numbers_or_nothing() {
        let equal = [true, false, false, true, false, false].map(|label| (0.2, label));
        let parted = [(-1.0, false), (-0.5, false), (0.5, true), (1.0, true)];
        let far = [(-1e9, false), (-3e8, false), (5e8, true), (1e9, true)];
        for rows in [&equal[..], &parted, &far] {
            for fitted in [platt(rows), beta(rows)].into_iter().flatten() {
                assert!(fitted.is_sound() && fitted.of(0.2).is_finite(), "{fitted:?}");
            }
        }
        assert!(platt(&parted).is_some() && beta(&parted).is_some());
    }

    #[test]
    fn a_system_is_solved() {
        let (h, x) = ([4.0, 1.0, 0.5, 3.0, -1.0, 2.0], [1.0, -2.0, 0.5]);
        let g = [4.0 - 2.0 + 0.25, 1.0 - 6.0 - 0.5, 0.5 + 2.0 + 1.0];
        for (found, want) in solve(h, g).iter().zip(x) {
            assert!((found - want).abs() < 1e-8, "{found} {want}");
        }
    }
}
