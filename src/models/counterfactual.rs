//! What would have to be otherwise for a risk to lie below the threshold.
//!
//! A search over few levers, each moved from where it is towards what is usual among training rows: it finds
//! the smallest move of one, or else of several, at most [`MOST`]. It promises that the risk of what it returns
//! was computed by the model, on a row that the caller made; whether such a change can be brought about, and
//! would then help, it cannot know: it tells what the model looks at, not what a treatment does.

use super::ModelError;

/// Steps from where a lever is to what is usual.
const STEPS: u32 = 16;
/// Most levers that are moved together.
const MOST: usize = 3;

/// Something that could be otherwise.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Lever {
    /// Where it is.
    pub from: f32,
    /// What is usual.
    pub usual: f32,
}

/// One lever that would be otherwise.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Change {
    /// Index into the levers.
    pub lever: usize,
    /// Where it would be.
    pub to: f32,
}

/// Changes after which the risk lies below the threshold.
#[derive(Clone, PartialEq, Debug)]
pub struct Counterfactual {
    /// All of them together are needed; the one that helps most comes first.
    pub changes: Vec<Change>,
    /// The risk then.
    pub risk: f64,
}

/// Looks for the smallest change after which `risk`, given the levers that are moved, lies below `threshold`;
/// `None` if moving as many as [`MOST`] all the way does not do it, or nothing can be moved.
///
/// # Errors
/// What `risk` says.
pub fn counterfactual(
    levers: &[Lever],
    threshold: f64,
    risk: &mut dyn FnMut(&[Change]) -> Result<f64, ModelError>,
) -> Result<Option<Counterfactual>, ModelError> {
    let movable = |lever: &Lever| lever.from.is_finite() && lever.usual.is_finite() && lever.from != lever.usual;
    let mut open: Vec<usize> = (0..levers.len()).filter(|&at| movable(&levers[at])).collect();
    let mut changes: Vec<Change> = Vec::new();
    while !open.is_empty() && changes.len() < MOST {
        for step in 1..=STEPS {
            let share = step as f32 / STEPS as f32;
            let mut best: Option<(Change, f64)> = None;
            for &lever in &open {
                let change = Change { lever, to: levers[lever].at(share) };
                changes.push(change);
                let then = risk(&changes)?;
                changes.pop();
                if best.is_none_or(|(_, least)| then < least) {
                    best = Some((change, then));
                }
            }
            let Some((change, least)) = best else { break };
            // The least risk at the smallest step that does it; at the last step, what helps most.
            if least < threshold || step == STEPS {
                changes.push(change);
                if least < threshold {
                    return Ok(Some(Counterfactual { changes, risk: least }));
                }
                open.retain(|&lever| lever != change.lever);
                break;
            }
        }
    }
    Ok(None)
}

impl Lever {
    /// Where it is after a share of the way; the whole way leads exactly there.
    fn at(self, share: f32) -> f32 {
        if share >= 1.0 { self.usual } else { self.from + (self.usual - self.from) * share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVERS: [Lever; 3] =
        [Lever { from: 8.0, usual: 0.0 }, Lever { from: -4.0, usual: 0.0 }, Lever { from: f32::NAN, usual: 0.0 }];

    /// A risk that is the sum of weights times what the levers are, over ten.
    fn search(weights: [f64; 3], threshold: f64) -> Option<Counterfactual> {
        let mut risk = |changes: &[Change]| {
            let is = |lever: usize| {
                let moved = changes.iter().find(|change| change.lever == lever).map(|change| change.to);
                f64::from(moved.unwrap_or(LEVERS[lever].from))
            };
            Ok((0..2).map(|lever| weights[lever] * is(lever)).sum::<f64>() / 10.0)
        };
        counterfactual(&LEVERS, threshold, &mut risk).unwrap()
    }

    #[test]
    fn the_smallest_move_of_one_lever_is_found() {
        // 0.8 now; moving the first lever by a step takes 0.05 off.
        let found = search([1.0, 0.0, 0.0], 0.68).unwrap();
        assert_eq!(found.changes, [Change { lever: 0, to: 6.5 }]);
        assert!((found.risk - 0.65).abs() < 1e-9);
    }

    #[test]
    fn several_levers_are_moved_where_one_is_not_enough() {
        // 0.8 + 0.4 now: the first lever all the way leaves 0.4, the second has to give the rest.
        let found = search([1.0, -1.0, 0.0], 0.35).unwrap();
        assert_eq!(found.changes[0], Change { lever: 0, to: 0.0 });
        assert_eq!(found.changes[1], Change { lever: 1, to: -3.25 });
        assert!(found.risk < 0.35);
    }

    #[test]
    fn where_nothing_helps_nothing_is_said() {
        assert_eq!(search([0.0, 0.0, 0.0], -0.1), None);
        assert_eq!(search([-1.0, 1.0, 0.0], -2.0), None);
        let stuck = [Lever { from: 1.0, usual: 1.0 }];
        assert_eq!(counterfactual(&stuck, 0.5, &mut |_| Ok(0.9)).unwrap(), None);
    }
}
