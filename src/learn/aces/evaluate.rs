//! The realizations of an ACES task in one subject's record.
//!
//! Rows are the subject's distinct times. Of a predicate only the rows are kept on which it
//! counts, so that memory grows with what the task asks for. All windows of a sample are
//! points on the time axis that follow from the trigger step by step; a sample is realized if
//! every point exists and every `has` holds.

use super::config::{Anchor, Bound, Config, Kind, Mark, Side, Step, Window};
use super::record::Record;
use crate::events::{Codes, Fact, Micros};

/// A trigger around which every window exists and holds what it must.
#[derive(Clone, PartialEq, Debug)]
pub struct Realization {
    /// Time of the trigger.
    pub trigger_time: Micros,
    /// Time of the side of the window with `index_timestamp`; `None` if no window has it.
    pub index_time: Option<Micros>,
    /// Count of the label predicate in its window; `None` if no window is labelled.
    pub label: Option<i64>,
    /// When the label predicate first counts in its window; `None` if it does not.
    pub outcome_time: Option<Micros>,
    /// When it first counts from the start of its window on, in the window or after it; `None` if it never does.
    pub next_outcome: Option<Micros>,
    /// When the last of its windows ends.
    pub closes: Micros,
    /// When the labelled window ends.
    pub until: Option<Micros>,
    /// When each predicate that the task asks for first counts in the labelled window; empty
    /// where it asks for none.
    pub firsts: Vec<Option<Micros>>,
    /// Finite values of the label predicate's events in its window, in the order of their times;
    /// empty where the task does not ask for them.
    pub values: Vec<f32>,
}

/// A label in the sense of the MEDS label schema.
#[derive(Clone, PartialEq, Debug)]
pub struct Label {
    /// Inclusive end of what a prediction may use.
    pub prediction_time: Micros,
    /// Whether the label predicate occurs in its window; `None` if the task labels no window.
    pub value: Option<bool>,
    /// How often it does.
    pub count: Option<i64>,
    /// When the label predicate first occurs in its window; `None` if it does not.
    pub outcome_time: Option<Micros>,
    /// As of a [`Realization`].
    pub next_outcome: Option<Micros>,
    /// Time of the trigger that the label belongs to.
    pub trigger_time: Micros,
    /// When the last window ends: until everything up to then is known, the label is not settled.
    pub closes: Micros,
    /// When the labelled window ends.
    pub until: Option<Micros>,
    /// As of a [`Realization`].
    pub firsts: Vec<Option<Micros>>,
    /// As of a [`Realization`].
    pub values: Vec<f32>,
}

/// Evaluates one task over many subjects, whose facts have their codes' numbers from one [`Codes`].
#[derive(Debug)]
pub struct Evaluator<'c> {
    config: &'c Config,
    /// Plain predicates that the events of a number may count for, one number after the other.
    members: Vec<usize>,
    /// Where those of each number end.
    ends: Vec<usize>,
    record: Record,
    /// Start and end of each window of a sample.
    spans: Vec<(Micros, Micros)>,
    occurred: Vec<bool>,
}

impl<'c> Evaluator<'c> {
    /// An evaluator that has seen no code yet.
    pub fn new(config: &'c Config) -> Self {
        Evaluator {
            config,
            members: Vec::new(),
            ends: Vec::new(),
            record: Record::new(config.predicates.len()),
            spans: Vec::new(),
            occurred: vec![false; config.predicates.len()],
        }
    }

    /// The labels of one subject, its facts in any order, by trigger time. Quicker if they are
    /// in the order of their times, as in MEDS data.
    ///
    /// Empty if the task has no index timestamp.
    pub fn labels(&mut self, codes: &Codes, facts: &[Fact]) -> Vec<Label> {
        let label = |found: Realization| {
            Some(Label {
                prediction_time: found.index_time?,
                value: found.label.map(|count| count > 0),
                count: found.label,
                outcome_time: found.outcome_time,
                next_outcome: found.next_outcome,
                trigger_time: found.trigger_time,
                closes: found.closes,
                until: found.until,
                firsts: found.firsts,
                values: found.values,
            })
        };
        self.realizations(codes, facts).into_iter().filter_map(label).collect()
    }

    /// Every realization in one subject's record, as [`labels`](Self::labels).
    pub fn realizations(&mut self, codes: &Codes, facts: &[Fact]) -> Vec<Realization> {
        self.read(codes, facts);
        if self.config.statics.iter().any(|p| self.record.fixed[*p] == 0) {
            return Vec::new();
        }
        let Evaluator { config, record, spans, .. } = self;
        let triggers = record.points(config.trigger);
        triggers.iter().filter_map(|trigger| realize(config, record, spans, *trigger)).collect()
    }

    /// Of each predicate of the task, whether it has occurred in any record so far.
    pub fn occurred(&self) -> &[bool] {
        &self.occurred
    }

    /// Makes the record of one subject's facts.
    fn read(&mut self, codes: &Codes, facts: &[Fact]) {
        self.learn(codes);
        self.record.clear();
        if facts.is_sorted_by_key(|fact| fact.time) {
            self.count(facts);
        } else {
            let mut facts = facts.to_vec();
            facts.sort_by_key(|fact| fact.time);
            self.count(&facts);
        }
        self.record.derive(&self.config.predicates);
        for (p, occurred) in self.occurred.iter_mut().enumerate() {
            *occurred |= self.record.has(p);
        }
    }

    /// Finds the predicates of the numbers that have come since.
    fn learn(&mut self, codes: &Codes) {
        // Numbers are given as u32, so that their count fits one.
        for number in self.ends.len() as u32..codes.len() as u32 {
            let (name, tests) = (codes.code(number), codes.passed(number));
            let predicates = self.config.predicates.iter().enumerate();
            self.members.extend(predicates.filter(|(_, one)| one.may_count(name, tests)).map(|(p, _)| p));
            self.ends.push(self.members.len());
        }
    }

    /// Counts facts that are in the order of their times.
    fn count(&mut self, facts: &[Fact]) {
        let measured = self.config.label.filter(|_| self.config.measured).map(|(_, p)| p);
        for fact in facts {
            if let Some(time) = fact.time {
                self.record.row(time);
            }
            let number = fact.code as usize;
            let from = if number == 0 { 0 } else { self.ends[number - 1] };
            for p in &self.members[from..self.ends[number]] {
                let predicate = &self.config.predicates[*p];
                if let Kind::Plain { low, high, .. } = &predicate.kind
                    && low.is_none_or(|low| above(fact.value, low))
                    && high.is_none_or(|high| below(fact.value, high))
                {
                    self.record.add(*p, predicate, fact.time);
                    if let Some(time) = fact.time.filter(|_| measured == Some(*p) && fact.value.is_finite()) {
                        self.record.measured.0.push(time);
                        self.record.measured.1.push(fact.value);
                    }
                }
            }
        }
    }
}

/// False for NaN, which is no value.
fn above(value: f32, bound: Bound) -> bool {
    value > bound.value || (bound.inclusive && value == bound.value)
}

/// False for NaN, which is no value.
fn below(value: f32, bound: Bound) -> bool {
    value < bound.value || (bound.inclusive && value == bound.value)
}

/// Adds what has occurred elsewhere to what has [`occurred`](Evaluator::occurred).
pub(in crate::learn) fn merge(occurred: &mut Vec<bool>, other: &[bool]) {
    occurred.resize(occurred.len().max(other.len()), false);
    for (occurred, other) in occurred.iter_mut().zip(other) {
        *occurred |= other;
    }
}

/// Follows every window from the trigger; `None` if a point is missing or a `has` fails.
fn realize(
    config: &Config,
    record: &Record,
    spans: &mut Vec<(Micros, Micros)>,
    trigger: Micros,
) -> Option<Realization> {
    spans.clear();
    for window in &config.windows {
        let anchor = match window.anchor {
            Anchor::Trigger => trigger,
            Anchor::Window(of, Side::Start) => spans[of].0,
            Anchor::Window(of, Side::End) => spans[of].1,
        };
        // What lies at a point that another window owns never ends the search from it.
        let root = step(record, window.to_root, anchor, false)?;
        let span = match window.root {
            Side::Start => (root, step(record, window.to_other, root, window.end_inclusive)?),
            Side::End => (step(record, window.to_other, root, window.start_inclusive)?, root),
        };
        let holds = window.has.iter().all(|has| {
            let count = count(record, has.mark, window, span);
            has.least.is_none_or(|least| count >= least) && has.most.is_none_or(|most| count <= most)
        });
        if !holds {
            return None;
        }
        spans.push(span);
    }
    let index_time =
        config.index.map(|(window, side)| if side == Side::Start { spans[window].0 } else { spans[window].1 });
    let labelled = config.label.map(|(window, p)| (Mark::Predicate(p), &config.windows[window], spans[window]));
    let label = labelled.map(|(mark, window, span)| count(record, mark, window, span));
    let (mut outcome_time, mut next_outcome) = (None, None);
    if let Some((mark, window, span)) = labelled {
        let (from, to) = places(record, mark, window, span);
        next_outcome = record.points(mark).get(from).copied();
        outcome_time = next_outcome.filter(|_| from < to);
    }
    let closes = spans.iter().map(|(_, end)| *end).max().unwrap_or(trigger);
    let (mut firsts, mut values) = (Vec::new(), Vec::new());
    if let Some((_, window, span)) = labelled {
        let first = |p: &usize| points(record, Mark::Predicate(*p), window, span).first().copied();
        firsts.extend(config.asked.iter().map(first));
        let (from, to) = within(&record.measured.0, window, span);
        values.extend_from_slice(record.measured.1.get(from..to).unwrap_or_default());
    }
    let until = labelled.map(|(_, _, (_, end))| end);
    Some(Realization {
        trigger_time: trigger,
        index_time,
        label,
        outcome_time,
        next_outcome,
        closes,
        until,
        firsts,
        values,
    })
}

/// The point that a step leads to; `inclusive`: a row at `from` itself counts.
fn step(record: &Record, step: Step, from: Micros, inclusive: bool) -> Option<Micros> {
    match step {
        Step::Same => Some(from),
        Step::Shift(us) => from.checked_add(us),
        Step::Next(mark) => {
            let points = record.points(mark);
            points.get(points.partition_point(|t| if inclusive { *t < from } else { *t <= from })).copied()
        }
        Step::Previous(mark) => {
            let points = record.points(mark);
            let after = points.partition_point(|t| if inclusive { *t <= from } else { *t < from });
            points.get(after.checked_sub(1)?).copied()
        }
    }
}

/// How often `mark` counts within a span.
fn count(record: &Record, mark: Mark, window: &Window, span: (Micros, Micros)) -> i64 {
    let (from, to) = places(record, mark, window, span);
    if to <= from { 0 } else { record.sum(mark, from, to) }
}

/// Times within a span at which `mark` counts.
fn points<'r>(record: &'r Record, mark: Mark, window: &Window, span: (Micros, Micros)) -> &'r [Micros] {
    let (from, to) = places(record, mark, window, span);
    record.points(mark).get(from..to).unwrap_or_default()
}

/// Which points of `mark` lie within a span: from and to.
fn places(record: &Record, mark: Mark, window: &Window, span: (Micros, Micros)) -> (usize, usize) {
    within(record.points(mark), window, span)
}

/// Which of these times, which ascend, lie within a span: from and to.
fn within(times: &[Micros], window: &Window, (start, end): (Micros, Micros)) -> (usize, usize) {
    let from = times.partition_point(|t| if window.start_inclusive { *t < start } else { *t <= start });
    let to = times.partition_point(|t| if window.end_inclusive { *t <= end } else { *t < end });
    (from, to)
}
