//! Integrated gradients (Sundararajan, Taly and Yan 2017): what each input of a smooth function adds on the
//! straight way from a baseline to a point.
//!
//! The integral is computed by Gauss-Legendre quadrature of eight nodes a panel, on twice as many panels
//! until what the inputs add is what the function gains, within [`CLOSE`], or there are [`MOST_PANELS`].
//! What is left over is told as the error, and shared out in proportion to what each input adds, so that
//! nothing is missing from the sum.

/// How near the sum must come to the gain, in log-odds.
const CLOSE: f64 = 1e-4;

/// Panels to begin with, and the most there are.
const FIRST_PANELS: usize = 1;
const MOST_PANELS: usize = 32;

/// Nodes of the Gauss-Legendre rule of order 8 on either side of 0, and their weights.
const NODES: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_48),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
];

/// A function and its derivative by each input.
pub(super) type Gradient<'a> = &'a dyn Fn(&[f64]) -> (f64, Vec<f64>);

/// What the inputs of a function add.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Integrated {
    /// The function at the baseline.
    pub(super) base: f64,
    /// What each input adds; with the base the function at the point, up to rounding.
    pub(super) contributions: Vec<f64>,
    /// What the quadrature left over, before it was shared out; not negative.
    pub(super) error: f64,
}

/// Integrates along the way from one point to another.
pub(super) fn integrate(from: &[f64], to: &[f64], gradient: Gradient<'_>) -> Integrated {
    let (base, (point, _)) = (gradient(from).0, gradient(to));
    let mut panels = FIRST_PANELS;
    loop {
        let mut contributions = quadrature(from, to, panels, gradient);
        let rest = point - base - contributions.iter().sum::<f64>();
        if rest.abs() > CLOSE && panels < MOST_PANELS {
            panels *= 2;
            continue;
        }
        let all: f64 = contributions.iter().map(|contribution| contribution.abs()).sum();
        if all > 0.0 {
            for contribution in &mut contributions {
                *contribution += rest * (contribution.abs() / all);
            }
        }
        return Integrated { base, contributions, error: rest.abs() };
    }
}

/// The mean derivative on the way times the whole change, for each input.
fn quadrature(from: &[f64], to: &[f64], panels: usize, gradient: Gradient<'_>) -> Vec<f64> {
    let mut sums = vec![0.0; from.len()];
    let mut between = vec![0.0; from.len()];
    for panel in 0..panels {
        for (node, weight) in NODES.into_iter().flat_map(|(node, weight)| [(-node, weight), (node, weight)]) {
            let share = (panel as f64 + (node + 1.0) / 2.0) / panels as f64;
            for ((between, from), to) in between.iter_mut().zip(from).zip(to) {
                *between = from + share * (to - from);
            }
            for (sum, slope) in sums.iter_mut().zip(gradient(&between).1) {
                *sum += slope * weight / (2 * panels) as f64;
            }
        }
    }
    sums.iter().zip(from).zip(to).map(|((sum, from), to)| sum * (to - from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polynomial_is_integrated_exactly() {
        // x² y³: the contributions from 0 to (a, b) are 2/5 and 3/5 of the whole.
        let gradient = |x: &[f64]| {
            let (x, y) = (x[0], x[1]);
            (x * x * y.powi(3), vec![2.0 * x * y.powi(3), 3.0 * x * x * y * y])
        };
        let found = integrate(&[0.0, 0.0], &[2.0, -1.5], &gradient);
        let whole = 4.0 * -3.375;
        assert!((found.contributions[0] - 0.4 * whole).abs() < 1e-12);
        assert!((found.contributions[1] - 0.6 * whole).abs() < 1e-12);
        assert!(found.error < 1e-12 && found.base == 0.0);
    }

    #[test]
    fn what_is_left_over_is_told_and_shared_out() {
        // A step: no quadrature hits it, so all that it gains is left over.
        let gradient = |x: &[f64]| (f64::from(u8::from(x[0] > 0.3)) + x[0] + 3.0 * x[1], vec![1.0, 3.0]);
        let found = integrate(&[0.0, 0.0], &[1.0, 1.0], &gradient);
        assert!((found.error - 1.0).abs() < 1e-12);
        assert!((found.contributions[0] - 1.25).abs() < 1e-12 && (found.contributions[1] - 3.75).abs() < 1e-12);
    }

    #[test]
    fn a_sharp_bend_takes_more_panels() {
        let steep = |x: &[f64]| ((60.0 * (x[0] - 0.37)).tanh(), vec![60.0 / (60.0 * (x[0] - 0.37)).cosh().powi(2)]);
        let first = quadrature(&[0.0], &[1.0], FIRST_PANELS, &steep);
        assert!((first[0] - 2.0).abs() > 1e-2, "the first do not do: {first:?}");
        assert!(integrate(&[0.0], &[1.0], &steep).error <= CLOSE);
    }

    #[test]
    fn the_baseline_contributes_nothing() {
        let gradient = |x: &[f64]| (x[0].sin(), vec![x[0].cos()]);
        assert_eq!(integrate(&[0.7], &[0.7], &gradient).contributions, [0.0]);
    }
}
