//! The tail of the normal distribution.

/// The standard score that leaves 2.5 % above it.
pub(super) const Z95: f64 = 1.959_963_984_540_054;

/// Beyond it the continued fraction converges faster than the series.
const FAR: f64 = 3.0;

/// Two-sided p of a standard score, exact to about 1e-14.
///
/// The series and the continued fraction of Abramowitz and Stegun 1964, 26.2.11 and 26.2.14.
pub(super) fn two_sided(z: f64) -> f64 {
    let z = z.abs();
    let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z < FAR {
        let (mut term, mut sum) = (z, z);
        for k in 1..100 {
            term *= z * z / f64::from(2 * k + 1);
            sum += term;
        }
        return (1.0 - 2.0 * density * sum).max(0.0);
    }
    let mut tail = z;
    for k in (1..200).rev() {
        tail = z + f64::from(k) / tail;
    }
    2.0 * density / tail
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of R's `2 * pnorm(-z)`.
    #[test]
    fn tails_are_those_of_the_tables() {
        for (z, p) in [
            (0.0, 1.0),
            (1.0, 0.317_310_507_862_914_1),
            (-1.0, 0.317_310_507_862_914_1),
            (Z95, 0.05),
            (2.999_999, 0.002_699_804_926_970_31),
            (3.0, 0.002_699_796_063_260_19),
            (5.0, 5.733_031_437_583_869e-7),
            (8.0, 1.244_192_114_854_363_9e-15),
        ] {
            assert!((two_sided(z) - p).abs() <= 1e-10 * p, "{z}: {} for {p}", two_sided(z));
        }
        assert_eq!(two_sided(50.0), 0.0);
    }
}
