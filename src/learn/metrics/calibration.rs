//! Whether a risk of 20 % means 20 %.

use serde::Serialize;

use super::Scored;
use super::figures::{BINS, bin};

/// Groups of the Hosmer-Lemeshow statistic.
const DECILES: usize = 10;
/// What the Challenge 2012 adds to a denominator, so that none is 0.
const PAD: f64 = 0.001;
/// How near to 0 and 1 a risk may come before its logarithm is taken.
pub(super) const CLIP: f64 = 1e-9;
/// Steps in which Newton's method must converge, and halvings of one step; where a line exists it takes about six.
const STEPS: usize = 100;

/// Rows whose risks fall into a bin of equal width.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct ReliabilityBin {
    /// Least risk.
    pub from: f64,
    /// Risk below which they are; 1 itself belongs to the last bin.
    pub to: f64,
    /// Rows.
    pub n: usize,
    /// Mean of their risks.
    pub mean_risk: Option<f64>,
    /// Share of them whose outcome is true.
    pub observed: Option<f64>,
    /// Wilson's 95 % interval of `observed`, as if rows were independent.
    pub observed_ci: Option<[f64; 2]>,
}

/// A tenth of the rows, ordered by risk.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct Decile {
    /// Rows.
    pub n: usize,
    /// Mean of their risks.
    pub mean_risk: f64,
    /// Share of them whose outcome is true.
    pub observed: f64,
    /// Wilson's 95 % interval of `observed`, as if rows were independent.
    pub observed_ci: [f64; 2],
}

/// The statistic of Hosmer and Lemeshow as event 2 of the PhysioNet/CinC Challenge 2012 has it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct HosmerLemeshow {
    /// `Σ (O_g - E_g)² / (N_g π_g (1 - π_g) + 0.001)` over the tenths.
    pub h: f64,
    /// `h / (π_10 - π_1)`: the score, the lower the better; `None` where all risks are alike.
    pub range_normalised: Option<f64>,
    /// The tenths, from the lowest risk up. Rows of equal risk share their outcomes evenly, so
    /// that it does not matter which of them falls into which tenth.
    pub deciles: Vec<Decile>,
}

/// The line of outcomes over log-odds of the risk (Cox 1958); a perfect one has slope 1 and
/// intercept 0. Risks nearer to 0 or 1 than 1e-9 are moved there.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct CalibrationLine {
    /// Below 1: risks are too extreme.
    pub slope: f64,
    /// With that slope.
    pub intercept: f64,
    /// Intercept with slope 1: above 0, risks are too low on the whole.
    pub in_the_large: f64,
}

/// Bins of equal width, those of the expected calibration error.
pub(super) fn reliability(rows: &[Scored]) -> Vec<ReliabilityBin> {
    let mut bins = [(0_usize, 0.0_f64, 0_usize); BINS];
    for row in rows {
        let of = &mut bins[bin(row.risk)];
        *of = (of.0 + 1, of.1 + row.risk, of.2 + usize::from(row.outcome));
    }
    let bins = bins.iter().enumerate();
    bins.map(|(i, (n, risks, positives))| {
        let mean = |sum: f64| (*n > 0).then(|| sum / *n as f64);
        let observed = mean(*positives as f64);
        ReliabilityBin {
            from: i as f64 / BINS as f64,
            to: (i + 1) as f64 / BINS as f64,
            n: *n,
            mean_risk: mean(*risks),
            observed,
            observed_ci: observed.map(|observed| wilson(observed, *n)),
        }
    })
    .collect()
}

/// Of rows from the highest risk down; `None` with fewer rows than tenths.
pub(super) fn hosmer_lemeshow(rows: &[Scored]) -> Option<HosmerLemeshow> {
    if rows.len() < DECILES {
        return None;
    }
    let shared: Vec<(f64, f64)> = rows
        .chunk_by(|a, b| a.risk.total_cmp(&b.risk).is_eq())
        .rev()
        .flat_map(|tied| {
            let share = tied.iter().filter(|row| row.outcome).count() as f64 / tied.len() as f64;
            tied.iter().map(move |row| (row.risk, share))
        })
        .collect();
    let deciles: Vec<Decile> = (0..DECILES)
        .map(|g| {
            let of = &shared[g * rows.len() / DECILES..(g + 1) * rows.len() / DECILES];
            let mean = |get: fn(&(f64, f64)) -> f64| of.iter().map(get).sum::<f64>() / of.len() as f64;
            let observed = mean(|row| row.1);
            Decile { n: of.len(), mean_risk: mean(|row| row.0), observed, observed_ci: wilson(observed, of.len()) }
        })
        .collect();
    let term = |of: &Decile| {
        let n = of.n as f64;
        (n * (of.observed - of.mean_risk)).powi(2) / (n * of.mean_risk * (1.0 - of.mean_risk) + PAD)
    };
    let h: f64 = deciles.iter().map(term).sum();
    let range = deciles[DECILES - 1].mean_risk - deciles[0].mean_risk;
    Some(HosmerLemeshow { h, range_normalised: (range > 0.0).then(|| h / range), deciles })
}

/// `None` with one outcome only, where all risks are alike, or where a threshold parts the
/// outcomes without a fault, so that no line is steep enough.
pub(super) fn line(rows: &[Scored]) -> Option<CalibrationLine> {
    let positives = rows.iter().filter(|row| row.outcome).count();
    if positives == 0 || positives == rows.len() {
        return None;
    }
    let point = |row: &Scored| {
        let risk = row.risk.clamp(CLIP, 1.0 - CLIP);
        ((risk / (1.0 - risk)).ln(), f64::from(u8::from(row.outcome)))
    };
    let points: Vec<(f64, f64)> = rows.iter().map(point).collect();
    let [intercept, slope] = newton(&points)?;
    Some(CalibrationLine { slope, intercept, in_the_large: in_the_large(&points) })
}

/// Mean negative log-likelihood; risks nearer to 0 or 1 than 1e-9 are moved there.
pub(super) fn log_loss(rows: &[Scored]) -> Option<f64> {
    let loss = |row: &Scored| -(if row.outcome { row.risk } else { 1.0 - row.risk }).max(CLIP).ln();
    (!rows.is_empty()).then(|| rows.iter().map(loss).sum::<f64>() / rows.len() as f64)
}

/// The shift of log-odds with which the mean risk is the share of outcomes, by bisection: the
/// mean rises with it, but too little at the ends for Newton's method.
fn in_the_large(points: &[(f64, f64)]) -> f64 {
    // Clipped log-odds lie within 21 of 0, and a share of up to 2^60 rows within 42.
    let (mut low, mut high) = (-64.0, 64.0);
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        let excess: f64 = points.iter().map(|(x, y)| logistic(middle + x) - y).sum();
        if excess < 0.0 { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

fn logistic(margin: f64) -> f64 {
    1.0 / (1.0 + (-margin).exp())
}

/// Intercept and slope of the logistic line through `points`, from the flat one, where every
/// step is well-behaved.
fn newton(points: &[(f64, f64)]) -> Option<[f64; 2]> {
    let mut at = [0.0, 0.0];
    let mut loss = loss_of(points, at);
    for _ in 0..STEPS {
        let (mut gradient, mut curvature) = ([0.0; 2], [0.0; 3]);
        for (x, y) in points {
            let p = logistic(at[0] + at[1] * x);
            let w = p * (1.0 - p);
            gradient = [gradient[0] + (y - p), gradient[1] + (y - p) * x];
            curvature = [curvature[0] + w, curvature[1] + w * x, curvature[2] + w * x * x];
        }
        let [a, b, c] = curvature;
        let determinant = a * c - b * b;
        if determinant.is_nan() || determinant <= 1e-10 * a * c {
            return None;
        }
        let full =
            [(c * gradient[0] - b * gradient[1]) / determinant, (a * gradient[1] - b * gradient[0]) / determinant];
        let size = full[0].abs().max(full[1].abs()) / (1.0 + at[0].abs().max(at[1].abs()));
        // So near, the next error is the square of this one, and rounding would hide that the loss falls.
        if size < 1e-6 {
            return Some([at[0] + full[0], at[1] + full[1]]);
        }
        // Newton's step may overshoot far from the minimum: halved until the loss does not rise.
        let halved = (0..STEPS as i32).map(|halvings| {
            let scale = 0.5_f64.powi(halvings);
            [at[0] + scale * full[0], at[1] + scale * full[1]]
        });
        let mut tried = halved.map(|next| (next, loss_of(points, next)));
        match tried.find(|(_, reached)| *reached <= loss) {
            Some(better) => (at, loss) = better,
            None => return None,
        }
    }
    None
}

fn loss_of(points: &[(f64, f64)], [intercept, slope]: [f64; 2]) -> f64 {
    // ln(1 + e^-m) without overflow, m the margin on the side of the outcome.
    let loss = |(x, y): &(f64, f64)| {
        let margin = (intercept + slope * x) * (2.0 * y - 1.0);
        (-margin.abs()).exp().ln_1p() + (-margin).max(0.0)
    };
    points.iter().map(loss).sum()
}

/// Wilson's score interval of a share of `n`, at 95 % (Wilson 1927).
fn wilson(share: f64, n: usize) -> [f64; 2] {
    let (z, n) = (super::normal::Z95, n as f64);
    let middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    [(middle - half).max(0.0), (middle + half).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::super::figures::Ranked;
    use super::super::tests::{near, rows};
    use super::*;

    #[test]
    fn hosmer_lemeshow_by_hand() {
        // Two rows a tenth, risks 0.1 apart, one positive in each of the upper five.
        let data: Vec<(f64, bool)> = (0..20).map(|i| (0.05 + 0.1 * f64::from(i / 2), i >= 10 && i % 2 == 0)).collect();
        let found = hosmer_lemeshow(&Ranked::new(&rows(&data)).rows).unwrap();
        let mut h = 0.0;
        for g in 0..10 {
            let pi = 0.05 + 0.1 * f64::from(g);
            let observed = if g >= 5 { 1.0 } else { 0.0 };
            h += (observed - 2.0 * pi).powi(2) / (2.0 * pi * (1.0 - pi) + 0.001);
        }
        assert!(near(Some(found.h), h) && near(found.range_normalised, h / 0.9), "{found:?}");
        assert_eq!(found.deciles[0].n, 2);
    }

    #[test]
    fn tied_risks_share_their_outcomes() {
        let data = |first: bool| -> Vec<(f64, bool)> {
            (0..40)
                .map(|i| (if i < 30 { 0.2 } else { 0.6 }, if first { i < 6 } else { i % 5 == 0 && i < 30 }))
                .collect()
        };
        let of = |first| hosmer_lemeshow(&Ranked::new(&rows(&data(first))).rows).unwrap();
        assert_eq!(of(true), of(false));
        assert!(of(true).deciles[..7].iter().all(|decile| near(Some(decile.observed), 0.2)));
        assert_eq!(hosmer_lemeshow(&rows(&[(0.5, true); 20])).unwrap().range_normalised, None);
        assert_eq!(hosmer_lemeshow(&rows(&[(0.5, true); 9])), None);
    }

    #[test]
    fn a_line_is_found_where_there_is_one() {
        // Of two groups each has a share; the line through their log-odds is exact.
        let logit = |p: f64| (p / (1.0 - p)).ln();
        let data: Vec<(f64, bool)> = (0..100).map(|i| (0.3, i < 40)).chain((0..100).map(|i| (0.8, i < 90))).collect();
        let found = line(&rows(&data)).unwrap();
        let slope = (logit(0.9) - logit(0.4)) / (logit(0.8) - logit(0.3));
        assert!((found.slope - slope).abs() < 1e-9);
        assert!((found.intercept - (logit(0.4) - slope * logit(0.3))).abs() < 1e-9);
        // With slope 1 the mean of the moved risks is the share of positives.
        let moved = |risk: f64| 1.0 / (1.0 + (-(logit(risk) + found.in_the_large)).exp());
        assert!((moved(0.3) + moved(0.8) - 1.3).abs() < 1e-9);

        let perfect: Vec<(f64, bool)> = [0.1, 0.5, 0.9]
            .iter()
            .flat_map(|share| (0..10).map(|i| (*share, f64::from(i) + 0.5 < share * 10.0)).collect::<Vec<_>>())
            .collect();
        let found = line(&rows(&perfect)).unwrap();
        assert!((found.slope - 1.0).abs() < 1e-9 && found.intercept.abs() < 1e-9 && found.in_the_large.abs() < 1e-9);
    }

    #[test]
    fn no_line_is_none() {
        assert_eq!(line(&rows(&[(0.2, false), (0.8, false)])), None);
        assert_eq!(line(&rows(&[(0.5, false), (0.5, true)])), None, "risks alike");
        assert_eq!(line(&rows(&[(0.2, false), (0.3, false), (0.7, true), (0.8, true)])), None, "separable");
        let extreme = line(&rows(&[(0.0, false), (0.0, false), (0.0, true), (1.0, true), (1.0, true), (1.0, false)]));
        let extreme = extreme.unwrap();
        assert!(extreme.slope > 0.0 && extreme.slope < 0.1 && extreme.in_the_large.abs() < 1e-3, "{extreme:?}");
        let too_low = line(&rows(&[(0.0, false), (0.0, true), (1e-3, false), (1e-3, true)])).unwrap();
        assert!(too_low.slope.abs() < 1e-9 && (too_low.in_the_large - 13.815).abs() < 0.01, "{too_low:?}");
    }

    #[test]
    fn log_loss_and_reliability_by_hand() {
        let rows = rows(&[(0.9, true), (0.5, true), (0.5, false), (0.2, false), (1.0, false)]);
        let expected = -(0.9_f64.ln() + 0.5_f64.ln() * 2.0 + 0.8_f64.ln() + 1e-9_f64.ln()) / 5.0;
        assert!((log_loss(&rows).unwrap() - expected).abs() < 1e-9);
        assert_eq!(log_loss(&[]), None);
        let bins = reliability(&rows);
        assert_eq!(bins.iter().map(|bin| bin.n).collect::<Vec<_>>(), [0, 0, 1, 0, 0, 2, 0, 0, 0, 2]);
        assert!(near(bins[5].observed, 0.5) && near(bins[9].mean_risk, 0.95));
        assert_eq!((bins[0].observed, bins[0].observed_ci), (None, None));
        // Wilson 1927, of 5 of 10.
        let [low, high] = wilson(0.5, 10);
        assert!((low - 0.2366).abs() < 1e-4 && (high - 0.7634).abs() < 1e-4);
    }
}
