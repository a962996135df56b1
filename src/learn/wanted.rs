//! What a task's label is where it is more than yes or no: which, when, how much, how many.
//!
//! The table `[label]` beside `aces`. Everything is looked up in the window of the ACES task that has the
//! label; one event is watched, which is what risk, threshold and alerts are about.

use toml::{Table, Value};

use super::aces::Label;
use crate::events::{HOUR, Micros};
use crate::models::{Question, Target};
use crate::settings::parse_span;

/// The class of a row in whose window none of the others occurs.
const NONE: &str = "none";
/// Cuts of an amount's distribution where a task does not say how many.
const CUTS: i64 = 9;
/// Keys of the table `[label]`.
pub(super) const KEYS: [&str; 7] = ["aces", "kind", "of", "times", "take", "watch", "cuts"];
/// Words of `kind`.
const KINDS: &str = "binary, multilabel, multiclass, survival, count or regression";

/// What the label of a task is.
#[derive(Clone, PartialEq, Debug)]
pub enum LabelKind {
    /// Whether the label predicate occurs.
    Binary,
    /// The same of each of several predicates: as many tasks.
    Multilabel(Vec<String>),
    /// More than yes or no.
    Wanted(Wanted),
}

/// A label that is more than yes or no.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted {
    /// What a model is asked.
    pub question: Question,
    /// Which number counts where several values are in the window; `None`: how many events there are.
    take: Option<Take>,
}

/// Which of the values in the window is the label.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Take {
    First,
    Last,
    Min,
    Max,
    Mean,
}

/// What became of one prediction.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Told {
    /// Whether what is watched happened; `None`: it was lost from sight before.
    pub(super) outcome: Option<bool>,
    /// The whole answer, where it is more.
    pub(super) target: Option<Target>,
}

/// A problem of the table: key, what is wrong, what to do.
type Wrong = (&'static str, String, String);

fn wrong(key: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    (key, what.into(), remedy.into())
}

impl LabelKind {
    /// Reads the table.
    ///
    /// # Errors
    /// The first problem of its kind's keys.
    pub(super) fn parse(label: &Table) -> Result<LabelKind, Wrong> {
        let kind = match label.get("kind") {
            None => "binary",
            Some(Value::String(kind)) => kind.as_str(),
            Some(_) => return Err(wrong("label.kind", "is no text", format!("write {KINDS}"))),
        };
        let allowed: &[&str] = match kind {
            "binary" => &[],
            "multilabel" => &["of"],
            "multiclass" => &["of", "watch"],
            "survival" => &["times", "watch"],
            "count" => &["watch", "cuts"],
            "regression" => &["take", "watch", "cuts"],
            _ => return Err(wrong("label.kind", "is no kind of label", format!("write {KINDS}"))),
        };
        if let Some(key) = KEYS[2..].iter().find(|key| label.contains_key(**key) && !allowed.contains(key)) {
            let remedy = format!("take {key} out, or change the kind");
            return Err(wrong("label.kind", format!("is {kind}, which knows no {key}"), remedy));
        }
        Ok(match kind {
            "multilabel" => LabelKind::Multilabel(words(label, "label.of", "of", "[\"sepsis\", \"stroke\"]")?),
            "multiclass" => {
                let names = words(label, "label.of", "of", "[\"home\", \"ward\", \"none\"]")?;
                let watched = place(label, &names)?;
                LabelKind::wanted(Question::Class { names, watched }, None, "label.of")?
            }
            "survival" => {
                let names = words(label, "label.times", "times", "[\"6h\", \"12h\", \"24h\"]")?;
                let hours = |name: &String| parse_span(name).map(|span| span.as_secs_f64() / 3600.0);
                let hours: Option<Vec<f64>> = names.iter().map(hours).collect();
                let hours = hours.ok_or_else(|| {
                    wrong("label.times", "holds more than spans of time", "write such as [\"6h\", \"12h\", \"24h\"]")
                })?;
                // The last, where the task does not say.
                let watched = match label.contains_key("watch") {
                    true => place(label, &names)?,
                    false => names.len().saturating_sub(1),
                };
                LabelKind::wanted(Question::Time { names, hours, watched }, None, "label.times")?
            }
            "count" => LabelKind::wanted(amount(label)?, None, "label.cuts")?,
            "regression" => LabelKind::wanted(amount(label)?, Some(take(label)?), "label.cuts")?,
            _ => LabelKind::Binary,
        })
    }

    fn wanted(question: Question, take: Option<Take>, key: &'static str) -> Result<LabelKind, Wrong> {
        match question.check() {
            Ok(()) => Ok(LabelKind::Wanted(Wanted { question, take })),
            Err(reason) => Err(wrong(key, reason, "correct the list")),
        }
    }

    /// Predicates of the ACES file that it asks for beside the label's own.
    pub(super) fn predicates(&self) -> Vec<String> {
        match self {
            LabelKind::Binary => Vec::new(),
            LabelKind::Multilabel(of) => of.clone(),
            LabelKind::Wanted(Wanted { question: Question::Class { names, .. }, .. }) => {
                names.iter().filter(|name| *name != NONE).cloned().collect()
            }
            LabelKind::Wanted(_) => Vec::new(),
        }
    }

    /// Whether it asks for the values of the label predicate's events.
    pub(super) fn asks_for_values(&self) -> bool {
        matches!(self, LabelKind::Wanted(Wanted { take: Some(_), .. }))
    }
}

/// The different texts of a list.
fn words(label: &Table, path: &'static str, key: &str, example: &str) -> Result<Vec<String>, Wrong> {
    let words = label.get(key).and_then(Value::as_array).filter(|words| !words.is_empty());
    let words = words.map(|words| words.iter().map(|word| word.as_str().map(str::to_owned)).collect());
    let words: Vec<String> =
        words.flatten().ok_or_else(|| wrong(path, "is no list of texts", format!("write such as {example}")))?;
    match (1..words.len()).find(|i| words[..*i].contains(&words[*i])) {
        Some(twice) => Err(wrong(path, format!("names '{}' twice", words[twice]), "name it once")),
        None => Ok(words),
    }
}

/// Which of the names `watch` is.
fn place(label: &Table, names: &[String]) -> Result<usize, Wrong> {
    let watch = label.get("watch").and_then(Value::as_str);
    watch.and_then(|watch| names.iter().position(|name| name == watch)).ok_or_else(|| {
        let remedy = format!("say what risk and alerts are about: one of {}", names.join(", "));
        wrong("label.watch", "names none of the label's own", remedy)
    })
}

fn amount(label: &Table) -> Result<Question, Wrong> {
    let watch = label.get("watch").and_then(Value::as_str).unwrap_or_default();
    let sides = [(">=", false), ("<", true)];
    let read = |(sign, below): (&str, bool)| {
        let level: f64 = watch.trim().strip_prefix(sign)?.trim().parse().ok()?;
        Some((level, below))
    };
    let (level, below) = sides.into_iter().find_map(read).ok_or_else(|| {
        wrong("label.watch", "is no limit", "say which amounts risk and alerts are about: \">= 2.0\" or \"< 7.2\"")
    })?;
    let cuts = label.get("cuts").map_or(Some(CUTS), Value::as_integer);
    let cuts = cuts
        .and_then(|cuts| usize::try_from(cuts).ok())
        .ok_or_else(|| wrong("label.cuts", "is no whole number from 1 to 63", format!("the usual value is {CUTS}")))?;
    Ok(Question::Amount { cuts, level, below })
}

fn take(label: &Table) -> Result<Take, Wrong> {
    Ok(match label.get("take").map_or(Some("last"), Value::as_str) {
        Some("first") => Take::First,
        Some("last") => Take::Last,
        Some("min") => Take::Min,
        Some("max") => Take::Max,
        Some("mean") => Take::Mean,
        _ => return Err(wrong("label.take", "is no way to take a value", "write first, last, min, max or mean")),
    })
}

impl Take {
    /// The label of values in the order of their times; `None` without any.
    fn of(self, values: &[f32]) -> Option<f64> {
        let all = || values.iter().map(|value| decimal(*value));
        match self {
            Take::First => all().next(),
            Take::Last => all().next_back(),
            Take::Min => all().reduce(f64::min),
            Take::Max => all().reduce(f64::max),
            Take::Mean => (!values.is_empty()).then(|| all().sum::<f64>() / values.len() as f64),
        }
    }
}

/// The number that a value in single precision was written as: 2.3, and not the 2.2999999523… that it is, which would
/// miss a limit of 2.3.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

impl Wanted {
    /// Name of a class.
    pub(super) fn class(&self, class: usize) -> Option<&str> {
        match &self.question {
            Question::Class { names, .. } => names.get(class).map(String::as_str),
            _ => None,
        }
    }

    /// What a label of the ACES task tells, and when what is watched happened; `None`: it gives no answer.
    pub(super) fn told(&self, label: &Label) -> Option<(Told, Option<Micros>)> {
        let (target, onset) = match &self.question {
            Question::Class { names, .. } => {
                let mut firsts = label.firsts.iter();
                let times = names.iter().map(|name| if name == NONE { None } else { *firsts.next()? });
                // Of two at the same time the one that is named first.
                let first = times.enumerate().filter_map(|(class, time)| Some((time?, class))).min();
                let class = first.map(|(_, class)| class).or_else(|| names.iter().position(|name| name == NONE))?;
                (Target::Class(class), first.map(|(time, _)| time))
            }
            Question::Amount { .. } => {
                let amount = match self.take {
                    Some(take) => take.of(&label.values)?,
                    None => label.count? as f64,
                };
                (Target::Amount(amount), None)
            }
            Question::Time { .. } => {
                let until = label.outcome_time.or(label.until)?;
                let hours = until.saturating_sub(label.prediction_time) as f64 / HOUR as f64;
                (Target::Time { hours, happened: label.outcome_time.is_some() }, label.outcome_time)
            }
        };
        let outcome = self.question.watched(target);
        Some((Told { outcome, target: Some(target) }, onset.filter(|_| outcome == Some(true))))
    }
}

/// The same of a task of any kind.
pub(super) fn told(wanted: Option<&Wanted>, label: &Label) -> Option<(Told, Option<Micros>)> {
    match wanted {
        Some(wanted) => wanted.told(label),
        None => label.value.map(|value| (Told { outcome: Some(value), target: None }, label.outcome_time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<LabelKind, Wrong> {
        LabelKind::parse(&text.parse::<Table>().unwrap())
    }

    fn wanted(text: &str) -> Wanted {
        match parse(text).unwrap() {
            LabelKind::Wanted(wanted) => wanted,
            other => panic!("{other:?}"),
        }
    }

    fn label() -> Label {
        Label {
            prediction_time: 10 * HOUR,
            value: Some(false),
            count: Some(0),
            outcome_time: None,
            next_outcome: None,
            trigger_time: 10 * HOUR,
            closes: 40 * HOUR,
            until: Some(34 * HOUR),
            firsts: Vec::new(),
            values: Vec::new(),
        }
    }

    #[test]
    fn a_label_is_yes_or_no_unless_it_says_otherwise() {
        assert_eq!(parse(""), Ok(LabelKind::Binary));
        assert_eq!(parse("kind = \"binary\""), Ok(LabelKind::Binary));
        let both = vec!["sepsis".to_owned(), "stroke".to_owned()];
        assert_eq!(parse("kind = \"multilabel\"\nof = [\"sepsis\", \"stroke\"]"), Ok(LabelKind::Multilabel(both)));
        assert_eq!(told(None, &label()), Some((Told { outcome: Some(false), target: None }, None)));
    }

    #[test]
    fn the_first_class_counts_and_none_where_it_is_foreseen() {
        let text = "kind = \"multiclass\"\nof = [\"home\", \"none\", \"died\"]\nwatch = \"died\"";
        let kind = wanted(text);
        assert_eq!(parse(text).unwrap().predicates(), ["home", "died"]);
        let told = |home: Option<i64>, died: Option<i64>| {
            kind.told(&Label { firsts: vec![home, died], ..label() }).map(|(told, onset)| (told.target, onset))
        };
        assert_eq!(told(Some(30), Some(20)), Some((Some(Target::Class(2)), Some(20))));
        assert_eq!(told(Some(20), Some(20)), Some((Some(Target::Class(0)), None)));
        assert_eq!(told(None, None), Some((Some(Target::Class(1)), None)));
        let strict = wanted("kind = \"multiclass\"\nof = [\"home\", \"died\"]\nwatch = \"died\"");
        assert_eq!(strict.told(&Label { firsts: vec![None, None], ..label() }), None);
    }

    #[test]
    fn amounts_are_counted_or_taken() {
        let count = wanted("kind = \"count\"\nwatch = \">= 2\"");
        let told = count.told(&Label { count: Some(3), ..label() }).unwrap().0;
        assert_eq!((told.target, told.outcome), (Some(Target::Amount(3.0)), Some(true)));
        for (take, amount) in [("first", 4.0), ("last", 3.0), ("min", 2.0), ("max", 4.0), ("mean", 3.0)] {
            let kind = wanted(&format!("kind = \"regression\"\ntake = \"{take}\"\nwatch = \"< 2.5\"\ncuts = 4"));
            let values = vec![4.0, 2.0, 3.0];
            let told = kind.told(&Label { values, ..label() }).unwrap().0;
            assert_eq!((told.target, told.outcome), (Some(Target::Amount(amount)), Some(amount < 2.5)));
            assert_eq!(kind.told(&label()), None, "no value, no label");
        }
    }

    #[test]
    fn a_limit_is_met_by_the_number_that_was_written() {
        let kind = wanted("kind = \"regression\"\nwatch = \">= 2.3\"");
        let told = kind.told(&Label { values: vec![2.3], ..label() }).unwrap().0;
        assert_eq!((told.target, told.outcome), (Some(Target::Amount(2.3)), Some(true)));
        assert_eq!([decimal(1e30), decimal(-0.1), decimal(16_777_216.0)], [1e30, -0.1, 16_777_216.0]);
    }

    #[test]
    fn times_end_with_what_was_seen() {
        let kind = wanted("kind = \"survival\"\ntimes = [\"6h\", \"12h\", \"2d\"]\nwatch = \"12h\"");
        let lost = kind.told(&label()).unwrap().0;
        assert_eq!(lost.target, Some(Target::Time { hours: 24.0, happened: false }));
        assert_eq!(lost.outcome, Some(false));
        let soon = kind.told(&Label { until: Some(13 * HOUR), ..label() }).unwrap().0;
        assert_eq!(soon.outcome, None);
        let (told, onset) = kind.told(&Label { outcome_time: Some(15 * HOUR), ..label() }).unwrap();
        assert_eq!((told.target, onset), (Some(Target::Time { hours: 5.0, happened: true }), Some(15 * HOUR)));
        let last = wanted("kind = \"survival\"\ntimes = [\"6h\", \"12h\", \"2d\"]");
        assert_eq!(last.told(&label()).unwrap().0.outcome, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, key) in [
            ("kind = 3", "label.kind"),
            ("kind = \"ordinal\"", "label.kind"),
            ("of = [\"a\"]", "label.kind"),
            ("kind = \"count\"\nwatch = \">= 1\"\ntake = \"last\"", "label.kind"),
            ("kind = \"multilabel\"", "label.of"),
            ("kind = \"multilabel\"\nof = [\"a\", \"a\"]", "label.of"),
            ("kind = \"multilabel\"\nof = [1]", "label.of"),
            ("kind = \"multiclass\"\nof = [\"a\", \"b\"]", "label.watch"),
            ("kind = \"multiclass\"\nof = [\"a\"]\nwatch = \"a\"", "label.of"),
            ("kind = \"survival\"\ntimes = [\"soon\"]", "label.times"),
            ("kind = \"survival\"\ntimes = [\"12h\", \"6h\"]", "label.times"),
            ("kind = \"survival\"\ntimes = [\"6h\"]\nwatch = \"7h\"", "label.watch"),
            ("kind = \"count\"", "label.watch"),
            ("kind = \"count\"\nwatch = \"> 2\"", "label.watch"),
            ("kind = \"count\"\nwatch = \">= inf\"", "label.cuts"),
            ("kind = \"count\"\nwatch = \">= 2\"\ncuts = 0", "label.cuts"),
            ("kind = \"regression\"\nwatch = \">= 2\"\ntake = \"sum\"", "label.take"),
        ] {
            let (found, what, remedy) = parse(text).unwrap_err();
            assert_eq!(found, key, "{text}: {what}");
            assert!(!what.is_empty() && !remedy.is_empty());
        }
    }
}
