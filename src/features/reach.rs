//! How far back the features look at the samples of each series.
//!
//! What lies before is of no prediction any more; a subject may [let go](super::Fold::trim) of it.

use super::aggregate::Window;
use super::derived::Of;
use super::spec::FeatureSpec;
use crate::events::{HOUR, Micros};

/// How far back samples of a series are looked at.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Reach {
    /// From a prediction; `None`: to the first sample.
    back: Option<Micros>,
    /// From the start of its encounter, if a window begins there.
    before_start: Option<Micros>,
}

impl Reach {
    /// Nobody looks at it.
    const NONE: Reach = Reach { back: Some(0), before_start: None };

    /// Whether no sample is ever out of reach.
    pub(super) fn is_endless(self) -> bool {
        self.back.is_none()
    }

    /// Whether it goes back to the start of an encounter, or before.
    pub(super) fn is_of_encounter(self) -> bool {
        self.before_start.is_some()
    }

    /// The earliest time that is looked at by predictions at `horizon` or later, in encounters that began at
    /// `began` or later.
    pub(super) fn floor(self, horizon: Micros, began: Micros) -> Micros {
        let Some(back) = self.back else { return Micros::MIN };
        let of_encounter = self.before_start.map_or(Micros::MAX, |before| began.saturating_sub(before));
        horizon.saturating_sub(back).min(of_encounter)
    }

    fn of(window: Window) -> Self {
        match window {
            Window::Back(span) => Reach { back: Some(span), before_start: None },
            Window::Encounter => Reach { back: Some(0), before_start: Some(0) },
            Window::Ever => Reach { back: None, before_start: None },
        }
    }

    /// That of an input, of which a derived concept of this reach looks `within` back from each of its moments.
    fn of_input(self, within: Option<Micros>) -> Self {
        let longer = |span: Micros| within.map(|within| span.saturating_add(within));
        Reach { back: self.back.and_then(longer), before_start: self.before_start.and_then(longer) }
    }

    fn extend(&mut self, other: Reach) {
        self.back = self.back.zip(other.back).map(|(one, other)| one.max(other));
        self.before_start = self.before_start.max(other.before_start);
    }
}

/// The reach of every series of a spec.
pub(super) fn reaches(spec: &FeatureSpec) -> Vec<Reach> {
    let mut reaches = vec![Reach::NONE; spec.panes().len()];
    let mut extend = |series: u16, other: Reach| {
        if let Some(reach) = reaches.get_mut(usize::from(series)) {
            reach.extend(other);
        }
    };
    for (series, panes) in (0..).zip(spec.panes()) {
        panes.iter().for_each(|pane| extend(series, Reach::of(pane.window)));
    }
    for texts in spec.texts() {
        texts.columns().for_each(|(window, _)| extend(texts.series, Reach::of(window)));
    }
    if let Some(grid) = spec.grid() {
        let hours = Window::Back(i64::from(grid.hours) * HOUR);
        grid.concepts.iter().for_each(|(series, _)| extend(*series, Reach::of(hours)));
    }
    // Each stands after those that it follows from.
    for derived in spec.derived().iter().rev() {
        let Some(own) = reaches.get(usize::from(derived.series)).copied() else { continue };
        for input in &derived.inputs {
            if let Of::Series(of) = input.of
                && let Some(reach) = reaches.get_mut(usize::from(of))
            {
                reach.extend(own.of_input(input.within));
            }
        }
    }
    reaches
}

#[cfg(test)]
mod tests {
    use super::super::tests::spec;
    use super::*;

    const FEATURES: &str = r#"
        [[derived]]
        name = "ratio"
        formula = "heart_rate / lactate"
        within = "3h"
        [[derived]]
        name = "load"
        formula = "ratio + doses"
        within = "5h"
        inputs.doses = { concept = "vasopressor", aggregate = "count", within = "ever" }
        [[feature]]
        concepts = ["heart_rate"]
        windows = ["2h", "10h"]
        aggregates = ["last"]
        [[feature]]
        concepts = ["ratio"]
        windows = ["encounter"]
        aggregates = ["max"]
        [[feature]]
        concepts = ["load"]
        windows = ["4h"]
        aggregates = ["max"]
        [[feature]]
        concepts = ["rhythm"]
        windows = ["ever"]
        aggregates = ["count"]
        [[text]]
        concept = "note"
        windows = ["encounter", "6h"]
        terms = ["pain"]
        [grid]
        concepts = ["lactate"]
        hours = 20
    "#;

    #[test]
    fn a_series_is_reached_by_windows_the_grid_and_what_follows_from_it() {
        let spec = spec(FEATURES);
        let reaches = reaches(&spec);
        // Of predictions at 1000 h or later, in encounters since 900 h, or since the prediction.
        for (name, floor, without) in [
            ("heart_rate", Some(897), Some(988)),
            ("lactate", Some(897), Some(980)),
            ("ratio", Some(900), Some(991)),
            ("load", Some(996), Some(996)),
            ("vasopressor", None, None),
            ("rhythm", None, None),
            ("note", Some(900), Some(994)),
        ] {
            let place = spec.series().iter().position(|series| series.name() == name).unwrap();
            let of = |began| reaches[place].floor(1_000 * HOUR, began);
            let hours = |hours: Option<i64>| hours.map_or(Micros::MIN, |hours| hours * HOUR);
            assert_eq!((of(900 * HOUR), of(Micros::MAX)), (hours(floor), hours(without)), "{name}");
            assert_eq!(reaches[place].is_endless(), floor.is_none(), "{name}");
        }
    }
}
