//! The realizations of an ACES task in one subject's record.
//!
//! Rows are the subject's distinct times with the counts of every predicate. All windows
//! of a sample are points on the time axis that follow from the trigger step by step; a
//! sample is realized if every point exists and every `has` holds.

use std::collections::HashMap;

use super::config::{Anchor, Bound, Config, Kind, Mark, Side, Step, Window};
use crate::events::Micros;

/// Most codes whose predicates are remembered at once.
const MEMORY: usize = 200_000;

/// What ACES sees of an event.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Event<'a> {
    /// When it happened; `None` is static.
    pub time: Option<Micros>,
    /// Its code.
    pub code: &'a str,
    /// Its value; NaN is no value.
    pub numeric_value: Option<f32>,
}

/// A trigger around which every window exists and holds what it must.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Realization {
    /// Time of the trigger.
    pub trigger_time: Micros,
    /// Time of the side of the window with `index_timestamp`; `None` if no window has it.
    pub index_time: Option<Micros>,
    /// Count of the label predicate in its window; `None` if no window is labelled.
    pub label: Option<i64>,
}

/// A label in the sense of the MEDS label schema.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// Inclusive end of what a prediction may use.
    pub prediction_time: Micros,
    /// Whether the label predicate occurs in its window.
    pub value: bool,
    /// Time of the trigger that the label belongs to.
    pub trigger_time: Micros,
}

/// The labels of one subject, its events in any order, by trigger time.
///
/// Empty if the task has no label or no index timestamp. Over many subjects an
/// [`Evaluator`] is faster: it remembers which codes mean which predicates.
pub fn labels(config: &Config, events: &[Event<'_>]) -> Vec<Label> {
    Evaluator::new(config).labels(events)
}

/// Evaluates one task over many subjects.
#[derive(Debug)]
pub struct Evaluator<'c> {
    config: &'c Config,
    /// Plain predicates whose code a code has.
    codes: HashMap<String, Vec<usize>>,
}

impl<'c> Evaluator<'c> {
    /// An evaluator that has seen no code yet.
    pub fn new(config: &'c Config) -> Self {
        Evaluator { config, codes: HashMap::new() }
    }

    /// The labels of one subject, as [`labels`].
    pub fn labels(&mut self, events: &[Event<'_>]) -> Vec<Label> {
        let label = |found: Realization| {
            Some(Label {
                prediction_time: found.index_time?,
                value: found.label? > 0,
                trigger_time: found.trigger_time,
            })
        };
        self.realizations(events).into_iter().filter_map(label).collect()
    }

    /// Every realization in one subject's record, its events in any order, by trigger time.
    pub fn realizations(&mut self, events: &[Event<'_>]) -> Vec<Realization> {
        let record = Record::new(self, events);
        if self.config.statics.iter().any(|p| record.fixed[*p] == 0) {
            return Vec::new();
        }
        (0..record.times.len())
            .filter(|row| record.is_marked(self.config.trigger, *row))
            .filter_map(|row| record.realize(self.config, record.times[row]))
            .collect()
    }

    /// Calls `count` with each plain predicate that holds of the event.
    fn matching(&mut self, event: &Event<'_>, mut count: impl FnMut(usize)) {
        if !self.codes.contains_key(event.code) {
            if self.codes.len() >= MEMORY {
                self.codes.clear();
            }
            let held = |kind: &Kind| matches!(kind, Kind::Plain { code, .. } if code.matches(event.code));
            let predicates = self.config.predicates.iter().enumerate();
            let found = predicates.filter(|(_, predicate)| held(&predicate.kind)).map(|(i, _)| i).collect();
            self.codes.insert(event.code.to_owned(), found);
        }
        let value = event.numeric_value.filter(|value| !value.is_nan());
        for i in self.codes.get(event.code).into_iter().flatten() {
            if let Kind::Plain { low, high, .. } = &self.config.predicates[*i].kind
                && low.is_none_or(|low| value.is_some_and(|value| above(value, low)))
                && high.is_none_or(|high| value.is_some_and(|value| below(value, high)))
            {
                count(*i);
            }
        }
    }
}

fn above(value: f32, bound: Bound) -> bool {
    value > bound.value || (bound.inclusive && value == bound.value)
}

fn below(value: f32, bound: Bound) -> bool {
    value < bound.value || (bound.inclusive && value == bound.value)
}

/// One subject's rows.
struct Record {
    /// Distinct times, ascending.
    times: Vec<Micros>,
    /// Of each predicate, the sum of the counts of all rows before each row, and of all at the end.
    sums: Vec<Vec<i64>>,
    /// Of each predicate, the rows on which it counts above zero.
    rows: Vec<Vec<usize>>,
    /// Of each predicate, its count over the events without time.
    fixed: Vec<i64>,
}

impl Record {
    fn new(evaluator: &mut Evaluator<'_>, events: &[Event<'_>]) -> Self {
        let config = evaluator.config;
        let mut times: Vec<Micros> = events.iter().filter_map(|event| event.time).collect();
        times.sort_unstable();
        times.dedup();
        let mut fixed = vec![0; config.predicates.len()];
        let mut counts = vec![vec![0_i64; times.len()]; config.predicates.len()];
        for event in events {
            match event.time {
                None => evaluator.matching(event, |p| fixed[p] += 1),
                Some(time) => {
                    let row = times.partition_point(|t| *t < time);
                    evaluator.matching(event, |p| counts[p][row] += 1);
                }
            }
        }
        for (p, predicate) in config.predicates.iter().enumerate() {
            let (inputs, and) = match &predicate.kind {
                Kind::Plain { .. } => continue,
                Kind::And(inputs) => (inputs, true),
                Kind::Or(inputs) => (inputs, false),
            };
            let combine = |holds: &dyn Fn(usize) -> bool| {
                let mut inputs = inputs.iter().map(|input| holds(*input));
                i64::from(if and { inputs.all(|held| held) } else { inputs.any(|held| held) })
            };
            fixed[p] = combine(&|input| fixed[input] > 0);
            // A plain static input holds on every row of the subject or on none.
            let holds = |input: usize, row: usize| {
                let of = &config.predicates[input];
                let everywhere = of.is_static && matches!(of.kind, Kind::Plain { .. });
                (if everywhere { fixed[input] } else { counts[input][row] }) > 0
            };
            counts[p] = (0..times.len()).map(|row| combine(&|input| holds(input, row))).collect();
        }
        let rows = counts.iter().map(|of| (0..of.len()).filter(|row| of[*row] > 0).collect()).collect();
        for of in &mut counts {
            let mut sum = 0;
            for count in of.iter_mut() {
                sum += std::mem::replace(count, sum);
            }
            of.push(sum);
        }
        Record { times, sums: counts, rows, fixed }
    }

    fn is_marked(&self, mark: Mark, row: usize) -> bool {
        match mark {
            Mark::Any => true,
            Mark::First => row == 0,
            Mark::Last => row + 1 == self.times.len(),
            Mark::Predicate(p) => self.rows[p].binary_search(&row).is_ok(),
        }
    }

    /// Follows every window from the trigger; `None` if a point is missing or a `has` fails.
    fn realize(&self, config: &Config, trigger: Micros) -> Option<Realization> {
        let mut spans: Vec<(Micros, Micros)> = Vec::with_capacity(config.windows.len());
        for window in &config.windows {
            let anchor = match window.anchor {
                Anchor::Trigger => trigger,
                Anchor::Window(of, Side::Start) => spans[of].0,
                Anchor::Window(of, Side::End) => spans[of].1,
            };
            // What lies at a point that another window owns never ends the search from it.
            let root = self.step(window.to_root, anchor, false)?;
            let span = match window.root {
                Side::Start => (root, self.step(window.to_other, root, window.end_inclusive)?),
                Side::End => (self.step(window.to_other, root, window.start_inclusive)?, root),
            };
            let holds = window.has.iter().all(|has| {
                let count = self.count(has.mark, window, span);
                has.least.is_none_or(|least| count >= least) && has.most.is_none_or(|most| count <= most)
            });
            if !holds {
                return None;
            }
            spans.push(span);
        }
        let index_time =
            config.index.map(|(window, side)| if side == Side::Start { spans[window].0 } else { spans[window].1 });
        let label =
            config.label.map(|(window, p)| self.count(Mark::Predicate(p), &config.windows[window], spans[window]));
        Some(Realization { trigger_time: trigger, index_time, label })
    }

    /// The point that a step leads to; `inclusive`: a row at `from` itself counts.
    fn step(&self, step: Step, from: Micros, inclusive: bool) -> Option<Micros> {
        match step {
            Step::Same => Some(from),
            Step::Shift(us) => from.checked_add(us),
            Step::Next(mark) => {
                let first = self.times.partition_point(|t| if inclusive { *t < from } else { *t <= from });
                self.next(mark, first)
            }
            Step::Previous(mark) => {
                let after = self.times.partition_point(|t| if inclusive { *t <= from } else { *t < from });
                self.previous(mark, after)
            }
        }
    }

    /// Time of the first marked row from `first` on.
    fn next(&self, mark: Mark, first: usize) -> Option<Micros> {
        let row = match mark {
            Mark::Any => first,
            Mark::First if first == 0 => 0,
            Mark::First => return None,
            // An empty record has no last row, and a search beyond it finds none.
            Mark::Last => first.max(self.times.len().checked_sub(1)?),
            Mark::Predicate(p) => *self.rows[p].get(self.rows[p].partition_point(|row| *row < first))?,
        };
        self.times.get(row).copied()
    }

    /// Time of the last marked row before `after`.
    fn previous(&self, mark: Mark, after: usize) -> Option<Micros> {
        let row = match mark {
            Mark::Any => after.checked_sub(1)?,
            Mark::First if after > 0 => 0,
            Mark::Last if after == self.times.len() => after.checked_sub(1)?,
            Mark::First | Mark::Last => return None,
            Mark::Predicate(p) => self.rows[p][..self.rows[p].partition_point(|row| *row < after)].last().copied()?,
        };
        self.times.get(row).copied()
    }

    /// How often `mark` counts within a span.
    fn count(&self, mark: Mark, window: &Window, (start, end): (Micros, Micros)) -> i64 {
        let from = self.times.partition_point(|t| if window.start_inclusive { *t < start } else { *t <= start });
        let to = self.times.partition_point(|t| if window.end_inclusive { *t <= end } else { *t < end });
        if to <= from {
            return 0;
        }
        match mark {
            Mark::Any => (to - from) as i64,
            Mark::First => i64::from(from == 0),
            Mark::Last => i64::from(to == self.times.len()),
            Mark::Predicate(p) => self.sums[p][to] - self.sums[p][from],
        }
    }
}
