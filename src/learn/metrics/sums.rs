//! Sums over rows that do not depend on the order of the rows.

/// The mean; `None` of nothing, or where it is beyond what a number can hold. Sorted first, so that another order of
/// the same values gives the same bits.
pub(super) fn mean(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    mean.is_finite().then_some(mean)
}

/// The area under the straight lines through points from left to right; `None` of fewer than two.
pub(super) fn trapezoid(points: &[(f64, f64)]) -> Option<f64> {
    let area = |pair: &[(f64, f64)]| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0;
    (points.len() > 1).then(|| points.windows(2).map(area).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_areas_by_hand() {
        assert_eq!(mean(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(mean(vec![1e16, 1.0, -1e16]), mean(vec![1.0, -1e16, 1e16]));
        assert_eq!((mean(vec![]), mean(vec![f64::NAN]), mean(vec![1e308; 2])), (None, None, None));
        assert_eq!(trapezoid(&[(0.0, 1.0), (2.0, 3.0), (3.0, 1.0)]), Some(4.0 + 2.0));
        assert_eq!((trapezoid(&[(1.0, 1.0)]), trapezoid(&[])), (None, None));
    }
}
