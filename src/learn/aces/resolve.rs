//! The names of an ACES file looked up, and its parts put into the order of evaluation.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{Anchor, Config, Has, Kind, Mark, Predicate, Side, Step, Window};
use super::parse::{Draft, Named, Reader, StepDraft, WindowDraft};
use super::{ANY_EVENT, RECORD_END, RECORD_START};
use crate::events::ColumnTest;

/// The checked task; `None` after noting what is wrong.
pub(super) fn resolve(
    reader: &mut Reader<'_>,
    named: &[Named],
    trigger: &str,
    windows: &[WindowDraft],
    asked: &[String],
) -> Option<Config> {
    Resolver { reader, named, order: BTreeMap::new(), predicates: Vec::new(), tests: Vec::new() }
        .config(trigger, windows, asked)
}

/// Looks names up and puts things in the order of evaluation.
struct Resolver<'r, 'a, 'n> {
    reader: &'r mut Reader<'a>,
    named: &'n [Named],
    /// Position in `predicates` of each that is placed.
    order: BTreeMap<&'n str, usize>,
    predicates: Vec<Predicate>,
    /// What the predicates ask of other columns, each once.
    tests: Vec<ColumnTest>,
}

impl<'n> Resolver<'_, '_, 'n> {
    fn config(mut self, trigger: &'n str, windows: &'n [WindowDraft], asked: &'n [String]) -> Option<Config> {
        let mut wanted = vec![("trigger".to_owned(), trigger)];
        for window in windows {
            let path = format!("windows.{}", window.name);
            let (root, other) = if window.root == Side::Start { ("start", "end") } else { ("end", "start") };
            for (side, step) in [(root, &window.to_root), (other, &window.to_other)] {
                if let StepDraft::Next(name) | StepDraft::Previous(name) = step {
                    wanted.push((format!("{path}.{side}"), name));
                }
            }
            wanted.extend(window.has.iter().map(|(name, ..)| (format!("{path}.has.{name}"), name.as_str())));
            if let Some(label) = &window.label {
                if [ANY_EVENT, RECORD_START, RECORD_END].contains(&label.as_str()) {
                    self.reader.problem(
                        format!("{path}.label"),
                        "is a special predicate",
                        "define a predicate and label by it",
                    );
                }
                wanted.push((format!("{path}.label"), label));
            }
        }
        wanted.extend(asked.iter().map(|name| ("predicates".to_owned(), name.as_str())));
        let named = self.named;
        for (path, name) in &wanted {
            match named.iter().find(|one| one.name == *name) {
                Some(one) if one.is_static => {
                    self.reader.problem(
                        path,
                        format!("refers to '{name}', which is static and on no dated row"),
                        "refer to a predicate of dated events",
                    );
                }
                Some(_) => {}
                None if [ANY_EVENT, RECORD_START, RECORD_END].contains(name) => {}
                None => self.reader.problem(
                    path,
                    format!("refers to the undefined predicate '{name}'"),
                    "define it under predicates",
                ),
            }
        }
        // Every derived predicate must resolve, referred to or not; only those referred to are kept.
        self.check_inputs();
        if !self.reader.problems.is_empty() {
            return None;
        }
        let mut used: BTreeSet<&str> = wanted.iter().map(|(_, name)| *name).collect();
        used.extend(named.iter().filter(|one| one.demographic).map(|one| one.name.as_str()));
        self.place(used);
        if self.tests.len() > ColumnTest::MOST {
            self.reader.problem(
                "predicates",
                format!("ask for {} different values of other columns", self.tests.len()),
                format!("ask for at most {}", ColumnTest::MOST),
            );
            return None;
        }
        let statics = named
            .iter()
            .filter(|one| one.is_static)
            .filter_map(|one| self.order.get(one.name.as_str()).copied())
            .collect();
        let trigger = self.mark(trigger)?;
        let (order, windows_done) = self.windows(windows)?;
        let single = |reader: &mut Reader<'_>, what: &str, found: Vec<usize>| -> Option<usize> {
            if found.len() > 1 {
                reader.problem(
                    "windows",
                    format!("have {} {what}s", found.len()),
                    format!("keep {what} in one window"),
                );
            }
            found.first().copied()
        };
        let label =
            single(self.reader, "label", (0..order.len()).filter(|i| windows[order[*i]].label.is_some()).collect());
        let index = single(
            self.reader,
            "index_timestamp",
            (0..order.len()).filter(|i| windows[order[*i]].index.is_some()).collect(),
        );
        if !self.reader.problems.is_empty() {
            return None;
        }
        let label = label.and_then(|i| Some((i, self.order.get(windows[order[i]].label.as_deref()?).copied()?)));
        let index = index.and_then(|i| Some((i, windows[order[i]].index?)));
        let asked = asked.iter().filter_map(|name| self.order.get(name.as_str()).copied()).collect();
        Some(Config {
            predicates: self.predicates,
            statics,
            trigger,
            windows: windows_done,
            label,
            index,
            asked,
            measured: false,
            tests: self.tests,
        })
    }

    /// Inputs of derived predicates exist and lead to no circle (Kahn's algorithm).
    fn check_inputs(&mut self) {
        let named = self.named;
        let mut open: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for one in named {
            let Draft::Derived { inputs, .. } = &one.draft else { continue };
            for input in inputs {
                if !named.iter().any(|other| other.name == *input) {
                    self.reader.problem(
                        format!("predicates.{}.expr", one.name),
                        format!("refers to the undefined predicate '{input}'"),
                        "define it under predicates",
                    );
                }
            }
            open.insert(&one.name, inputs.iter().map(String::as_str).collect());
        }
        loop {
            let done: Vec<&str> = open
                .iter()
                .filter(|(_, inputs)| inputs.iter().all(|i| !open.contains_key(i)))
                .map(|(name, _)| *name)
                .collect();
            if done.is_empty() {
                break;
            }
            open.retain(|name, _| !done.contains(name));
        }
        for name in open.keys() {
            self.reader.problem(
                format!("predicates.{name}.expr"),
                "refers to itself through its inputs",
                "break the circle",
            );
        }
    }

    /// Places what is used and its inputs, inputs first. The inputs are known to be free of circles.
    fn place(&mut self, used: BTreeSet<&'n str>) {
        let named = self.named;
        let find = |name: &str| named.iter().find(|one| one.name == name);
        let mut needed = BTreeSet::new();
        let mut open: Vec<&str> = used.into_iter().collect();
        while let Some(name) = open.pop() {
            if let Some(one) = find(name)
                && needed.insert(one.name.as_str())
                && let Draft::Derived { inputs, .. } = &one.draft
            {
                open.extend(inputs.iter().map(String::as_str));
            }
        }
        while self.order.len() < needed.len() {
            let before = self.order.len();
            for name in &needed {
                let Some(one) = find(name).filter(|one| !self.order.contains_key(one.name.as_str())) else { continue };
                let kind = match &one.draft {
                    Draft::Plain { code, low, high, tests } => {
                        let passed = tests.iter().map(|test| bit(&mut self.tests, test)).fold(0, |all, bit| all | bit);
                        Kind::Plain { code: code.clone(), low: *low, high: *high, passed }
                    }
                    Draft::Derived { and, inputs } => {
                        let Some(inputs) = inputs.iter().map(|input| self.order.get(input.as_str()).copied()).collect()
                        else {
                            continue;
                        };
                        if *and { Kind::And(inputs) } else { Kind::Or(inputs) }
                    }
                };
                self.order.insert(&one.name, self.predicates.len());
                self.predicates.push(Predicate { name: one.name.clone(), kind, is_static: one.is_static });
            }
            if self.order.len() == before {
                return;
            }
        }
    }

    fn mark(&self, name: &str) -> Option<Mark> {
        match name {
            ANY_EVENT => Some(Mark::Any),
            RECORD_START => Some(Mark::First),
            RECORD_END => Some(Mark::Last),
            name => self.order.get(name).copied().map(Mark::Predicate),
        }
    }

    /// Windows in an order in which each follows the one it hangs on.
    fn windows(&mut self, drafts: &[WindowDraft]) -> Option<(Vec<usize>, Vec<Window>)> {
        let mut order: Vec<usize> = Vec::new();
        let mut windows = Vec::new();
        for draft in drafts {
            if let Some((name, _)) = &draft.anchor
                && !drafts.iter().any(|other| other.name == *name)
            {
                self.reader.problem(
                    format!("windows.{}", draft.name),
                    format!("refers to the undefined window '{name}'"),
                    "define it under windows",
                );
            }
        }
        if !self.reader.problems.is_empty() {
            return None;
        }
        loop {
            let before = order.len();
            for (i, draft) in drafts.iter().enumerate() {
                if order.contains(&i) {
                    continue;
                }
                let anchor = match &draft.anchor {
                    None => Anchor::Trigger,
                    Some((name, side)) => match order.iter().position(|placed| drafts[*placed].name == *name) {
                        Some(at) => Anchor::Window(at, *side),
                        None => continue,
                    },
                };
                let step = |step: &StepDraft| {
                    Some(match step {
                        StepDraft::Same => Step::Same,
                        StepDraft::Shift(us) => Step::Shift(*us),
                        StepDraft::Next(name) => Step::Next(self.mark(name)?),
                        StepDraft::Previous(name) => Step::Previous(self.mark(name)?),
                    })
                };
                let has = draft
                    .has
                    .iter()
                    .map(|(name, least, most)| Some(Has { mark: self.mark(name)?, least: *least, most: *most }));
                windows.push(Window {
                    root: draft.root,
                    anchor,
                    to_root: step(&draft.to_root)?,
                    to_other: step(&draft.to_other)?,
                    start_inclusive: draft.start_inclusive,
                    end_inclusive: draft.end_inclusive,
                    has: has.collect::<Option<_>>()?,
                });
                order.push(i);
            }
            if order.len() == before {
                break;
            }
        }
        for (i, draft) in drafts.iter().enumerate() {
            if !order.contains(&i) {
                self.reader.problem(
                    format!("windows.{}", draft.name),
                    "hangs on itself",
                    "tie one window to the trigger",
                );
            }
        }
        self.reader.problems.is_empty().then_some((order, windows))
    }
}

/// The bit of a test, which is noted if it is new; beyond [`ColumnTest::MOST`] there is none.
fn bit(tests: &mut Vec<ColumnTest>, test: &ColumnTest) -> u64 {
    let place = tests.iter().position(|known| known == test).unwrap_or_else(|| {
        tests.push(test.clone());
        tests.len() - 1
    });
    u32::try_from(place).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
}
