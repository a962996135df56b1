//! Shapley values by sampling, for models that no exact method takes apart.
//!
//! A column's Shapley value (Shapley 1953) is what setting it from the baseline's value to
//! the row's changes, in the mean over all orders of setting them one by one. Štrumbelj
//! and Kononenko (2014) take the mean over random orders; here each order is followed by
//! its reverse (antithetic sampling, Mitchell et al. 2022), which halves the error or
//! better for the same work. The changes along one order add up to margin less base, so
//! their means do too: only how it is shared out among the columns is an estimate, and
//! its standard error is told. Where that is small soon, fewer orders do.

use super::Attribution;
use super::random::{Random, mix};

/// Most pairs of an order and its reverse that one explanation takes.
const PAIRS: usize = 16;

/// Fewest: of fewer, the error itself would be a guess.
const FEWEST: usize = 6;

/// An error of this share of the largest value is small: no more pairs are taken.
const SMALL: f64 = 0.01;

/// Estimated Shapley values.
#[derive(Clone, PartialEq, Debug)]
struct Sampled {
    /// One a player.
    values: Vec<f64>,
    /// The largest of their standard errors.
    error: f64,
}

/// The seed of a row: its bits, so that the same row has the same explanation everywhere.
fn seed(row: &[f32]) -> u64 {
    row.iter().fold(0, |seed, value| mix(seed ^ u64::from(value.to_bits()).wrapping_add(1)))
}

/// Estimates the values of `players` players. `walk` lets them come in one by one, in the
/// order given, and adds to each one's place in the second argument what its coming changes.
fn sample(players: usize, seed: u64, walk: &mut dyn FnMut(&[usize], &mut [f64])) -> Sampled {
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..players).collect();
    // Means and squared deviations from them, updated as Welford (1962): a difference of
    // two large sums would drown a small error.
    let (mut means, mut squares) = (vec![0.0; players], vec![0.0; players]);
    let mut error = 0.0;
    for pair in 1..=PAIRS {
        let mut gains = vec![0.0; players];
        random.shuffle(&mut order);
        walk(&order, &mut gains);
        order.reverse();
        walk(&order, &mut gains);
        for ((mean, square), gain) in means.iter_mut().zip(&mut squares).zip(gains) {
            let off = gain / 2.0 - *mean;
            *mean += off / pair as f64;
            *square += off * (gain / 2.0 - *mean);
        }
        if pair >= FEWEST {
            let pairs = pair as f64;
            let largest = |values: &[f64]| values.iter().fold(0.0f64, |most, value| most.max(value.abs()));
            error = (largest(&squares) / (pairs - 1.0) / pairs).sqrt();
            if error <= SMALL * largest(&means) {
                break;
            }
        }
    }
    Sampled { values: means, error }
}

/// The columns of a row that are not as in the baseline: a column that stays as it is contributes nothing.
pub(super) fn moved(row: &[f32], baseline: &[f32]) -> Vec<usize> {
    (0..row.len()).filter(|&column| row[column] != baseline[column]).collect()
}

/// Explains a row by the values of its `moved` columns, the players of `walk` in their order.
pub(super) fn attribute(
    row: &[f32],
    moved: &[usize],
    base: f64,
    walk: &mut dyn FnMut(&[usize], &mut [f64]),
) -> Attribution {
    let sampled = sample(moved.len(), seed(row), walk);
    let mut contributions = vec![0.0; row.len()];
    for (&column, value) in moved.iter().zip(sampled.values) {
        contributions[column] = value;
    }
    Attribution { base, contributions, error: Some(sampled.error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A game of pairs and triples: the value of a set of players.
    fn worth(set: &[bool]) -> f64 {
        let on = |i: usize| f64::from(u8::from(set[i]));
        2.0 * on(0) - on(1) + 3.0 * on(0) * on(2) + 4.0 * on(1) * on(2) * on(3) - 1.5 * on(3) * on(4)
    }

    /// Its Shapley values: a product's worth is shared out evenly among its players.
    const EXACT: [f64; 6] = [3.5, -1.0 + 4.0 / 3.0, 1.5 + 4.0 / 3.0, 4.0 / 3.0 - 0.75, -0.75, 0.0];

    fn play(seed: u64) -> Sampled {
        sample(6, seed, &mut |order, gains| {
            let mut set = [false; 6];
            for &player in order {
                let before = worth(&set);
                set[player] = true;
                gains[player] += worth(&set) - before;
            }
        })
    }

    #[test]
    fn estimates_are_as_near_to_the_exact_values_as_their_error_says() {
        let mut squared = 0.0;
        let mut told = 0.0;
        for seed in 0..200 {
            let found = play(seed);
            assert!((found.values.iter().sum::<f64>() - worth(&[true; 6])).abs() < 1e-12);
            assert_eq!(found.values[5], 0.0, "a player who changes nothing");
            let off = found.values.iter().zip(EXACT).map(|(value, exact)| (value - exact).powi(2)).fold(0.0, f64::max);
            assert!(off.sqrt() < 5.0 * found.error, "{found:?}");
            squared += (found.values[1] - EXACT[1]).powi(2) / 200.0;
            told += found.error / 200.0;
        }
        // Player 1's spread over seeds is the largest, so that is what the error tells.
        assert!((0.5..2.0).contains(&(squared.sqrt() / told)), "{} {told}", squared.sqrt());
    }

    #[test]
    fn a_game_of_pairs_is_exact_and_seeds_repeat() {
        let pairs = sample(3, 9, &mut |order, gains| {
            let mut set = [0.0; 3];
            for &player in order {
                let worth = |set: &[f64; 3]| set[0] * set[1] - 2.0 * set[1] * set[2] + set[2];
                let before = worth(&set);
                set[player] = 1.0;
                gains[player] += worth(&set) - before;
            }
        });
        // An order and its reverse see each pair once from either side.
        assert_eq!(pairs, Sampled { values: vec![0.5, -0.5, 0.0], error: 0.0 });
        assert_eq!(play(3), play(3));
        assert_ne!(play(3), play(4));
        assert_ne!(seed(&[0.0, 1.0]), seed(&[1.0, 0.0]));
        assert_ne!(seed(&[0.0]), seed(&[0.0, 0.0]));
    }

    #[test]
    fn what_is_clear_soon_takes_fewer_orders() {
        let orders = |noise: f64| {
            let mut orders = 0;
            let found = sample(3, 2, &mut |order, gains| {
                orders += 1;
                for &player in order {
                    // What the first to come gains is more than it is worth.
                    gains[player] += 1.0 + if player == order[0] { noise } else { 0.0 };
                }
            });
            assert!(found.error <= SMALL || orders == 2 * PAIRS);
            orders
        };
        assert_eq!((orders(0.0), orders(1e-3), orders(1.0)), (2 * FEWEST, 2 * FEWEST, 2 * PAIRS));
    }

    #[test]
    fn no_players_share_nothing() {
        assert_eq!(sample(0, 1, &mut |_, _| {}), Sampled { values: vec![], error: 0.0 });
    }
}
