//! A task: what is predicted, when, by what kind of model, and when that is worth an alert.
//!
//! Read from `tasks/NAME.toml` and the ACES file it names. Promises every problem of both
//! at once, each with its key.

use croner::Cron;
use toml::{Table, Value};

use super::aces;
use super::gate::GateSettings;
use super::search::SearchSettings;
use super::wanted::{self, LabelKind, Wanted};
use crate::alerts::{Policy, RawPolicy};
use crate::events::Micros;
use crate::features::{RawTrigger, Trigger};
use crate::models::{Abstain, Family, Hyper, Select};
use crate::settings::{Problem, TextFile, parse_span};

/// Everything of a task's file, validated.
#[derive(Clone, Debug)]
pub struct Task {
    /// Name, of a-z, 0-9 and '_': that of its models too.
    pub name: String,
    /// What a person reads.
    pub title: String,
    /// How far ahead it looks.
    pub horizon: Micros,
    /// When a prediction falls due.
    pub trigger: Trigger,
    /// Name of the ACES file within the site.
    pub aces_file: String,
    /// What becomes of a prediction, from the ACES file; has a label and an index timestamp.
    pub aces: aces::Config,
    /// What the label is beyond yes or no, from the table `[label]`.
    pub wanted: Option<Wanted>,
    /// How a model is made.
    pub train: TrainSettings,
    /// What a model must reach.
    pub gate: GateSettings,
    /// When a risk is worth an alert.
    pub policy: Policy,
    /// When its models abstain, the table `[abstain]`; `None`: never, every prediction has a risk.
    pub abstain: Option<Abstain>,
}

/// How a model is made, the table `[train]`.
#[derive(Clone, Debug)]
pub struct TrainSettings {
    /// Kind of model.
    pub family: Family,
    /// When the role `train` trains; `None`: only on demand.
    pub schedule: Option<Cron>,
    /// Fewest subjects with a label.
    pub min_subjects: usize,
    /// Fewest rows whose label is true.
    pub min_positives: usize,
    /// Seed of everything random in a fit.
    pub seed: u64,
    /// Hyperparameters, the tables `[train.params.FAMILY]`, or those of `preset`.
    pub params: Hyper,
    /// The model's file where `family` is `onnx`, set by whoever knows the site's folder.
    pub onnx: Option<std::path::PathBuf>,
    /// Whether and how to look for better ones first, the table `[train.search]`.
    pub search: Option<SearchSettings>,
    /// Which features are left out, the table `[train.select]`; `None`: no feature.
    pub select: Option<Select>,
    /// In how many folds training and tuning subjects serve both fit and calibration; `None`: apart.
    pub crossfit: Option<usize>,
}

/// Whether `name` can be the name of a task (and of a folder of the registry).
pub(super) fn is_task_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl Task {
    /// Reads a task's file; `aces`: the ACES files of the site. It holds one task, or, where the label is
    /// `multilabel`, one a label, `NAME_LABEL`: each has a model, a threshold and alerts of its own.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn parse(file: &TextFile, aces: &[TextFile]) -> Result<Vec<Task>, Vec<Problem>> {
        let mut reader = Reader { file: &file.name, problems: Vec::new() };
        let tasks = reader.task(&file.text, aces).map(|(task, labels)| reader.split(task, &labels));
        match tasks {
            Some(tasks) if reader.problems.is_empty() => Ok(tasks),
            _ => Err(reader.problems),
        }
    }
}

/// Keys of the table `[train]`.
const TRAIN_KEYS: [&str; 10] =
    ["family", "schedule", "min_subjects", "min_positives", "seed", "params", "search", "preset", "select", "crossfit"];

struct Reader<'a> {
    file: &'a str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(self.file, key, what, remedy));
    }

    /// The task, and the labels that it is to be taken apart by.
    fn task(&mut self, text: &str, aces: &[TextFile]) -> Option<(Task, Vec<String>)> {
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                let error: toml::de::Error = error;
                let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
                self.problem(&format!("line {line}"), format!("is no TOML: {}", error.message()), "correct the syntax");
                return None;
            }
        };
        self.keys("", &table, &["name", "title", "horizon", "trigger", "label", "train", "gate", "alert", "abstain"]);
        let name = self.text(&table, "", "name");
        if name.as_deref().is_some_and(|name| !is_task_name(name)) {
            self.problem("name", "is more than a word", "use up to 64 of a-z, 0-9 and '_'");
        }
        if name.is_none() && !table.contains_key("name") {
            self.problem("name", "is missing", "give the task a name");
        }
        let title = self.text(&table, "", "title").or_else(|| name.clone());
        let horizon = self.horizon(&table);
        let trigger = self.trigger(&table);
        let label = self.label(&table, aces);
        let train = self.train(&table);
        let gate = self.gate(&table);
        let policy = self.policy(&table);
        let abstain = self.abstain(&table);
        let (aces_file, aces, kind) = label?;
        let (wanted, labels) = match kind {
            LabelKind::Binary => (None, Vec::new()),
            LabelKind::Multilabel(labels) => (None, labels),
            LabelKind::Wanted(wanted) => (Some(wanted), Vec::new()),
        };
        if wanted.is_some() && train.as_ref().is_some_and(|train| train.crossfit.is_some()) {
            self.problem("train.crossfit", "is for labels that are yes or no", "leave it out");
        }
        let task = Task {
            name: name?,
            title: title?,
            horizon: horizon?,
            trigger: trigger?,
            aces_file,
            aces,
            wanted,
            train: train?,
            gate: gate?,
            policy: policy?,
            abstain: abstain?,
        };
        Some((task, labels))
    }

    /// A task a label; the task itself where there are none.
    fn split(&mut self, task: Task, labels: &[String]) -> Vec<Task> {
        if labels.is_empty() {
            return vec![task];
        }
        let of = |(i, label): (usize, &String)| Task {
            name: format!("{}_{label}", task.name),
            title: format!("{}: {label}", task.title),
            aces: task.aces.labelled_by(i),
            ..task.clone()
        };
        let tasks: Vec<Task> = labels.iter().enumerate().map(of).collect();
        for task in tasks.iter().filter(|task| !is_task_name(&task.name)) {
            let what = format!("makes the task '{}', which is no name", task.name);
            self.problem("label.of", what, "name predicates of a-z, 0-9 and '_', and keep the whole below 65");
        }
        tasks
    }

    /// Complains of every key of `table` that is not in `known`.
    fn keys(&mut self, path: &str, table: &Table, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            self.problem(&join(path, key), "is unknown", format!("use only {}", known.join(", ")));
        }
    }

    /// The table below `key`, empty if there is none.
    fn table(&mut self, table: &Table, key: &str) -> Option<Table> {
        match table.get(key) {
            None => Some(Table::new()),
            Some(Value::Table(table)) => Some(table.clone()),
            Some(_) => {
                self.problem(key, "is no table", format!("write [{key}] above its keys"));
                None
            }
        }
    }

    fn text(&mut self, table: &Table, path: &str, key: &str) -> Option<String> {
        match table.get(key) {
            None => None,
            Some(Value::String(text)) if !text.trim().is_empty() => Some(text.clone()),
            Some(_) => {
                self.problem(&join(path, key), "is no text", "give a text in quotes");
                None
            }
        }
    }

    /// A whole number of at least `least`; `default` if there is none.
    fn whole(&mut self, table: &Table, path: &str, key: &str, least: i64, default: i64) -> Option<u64> {
        let number = table.get(key).map_or(Some(default), Value::as_integer).filter(|number| *number >= least);
        if number.is_none() {
            self.problem(
                &join(path, key),
                format!("is no whole number from {least} up"),
                format!("the usual value is {default}"),
            );
        }
        number.and_then(|number| u64::try_from(number).ok())
    }

    /// A number within `range`; `default` if there is none.
    fn number(&mut self, table: &Table, key: &str, range: (f64, f64), default: f64) -> Option<f64> {
        let number = match table.get(key) {
            None => Some(default),
            Some(Value::Integer(number)) => Some(*number as f64),
            Some(Value::Float(number)) => Some(*number),
            Some(_) => None,
        };
        let number = number.filter(|number| (range.0..=range.1).contains(number));
        if number.is_none() {
            let what = format!("is no number from {} to {}", range.0, range.1);
            self.problem(&join("gate", key), what, format!("the usual value is {default}"));
        }
        number
    }

    fn horizon(&mut self, table: &Table) -> Option<Micros> {
        let text = self.text(table, "", "horizon");
        let span = text.as_deref().and_then(parse_span).filter(|span| !span.is_zero());
        if span.is_none() && (text.is_some() || !table.contains_key("horizon")) {
            let what = if text.is_some() { "is no span of time" } else { "is missing" };
            self.problem("horizon", what, "say how far ahead the task looks, such as \"24h\"");
        }
        span.and_then(|span| Micros::try_from(span.as_micros()).ok())
    }

    fn trigger(&mut self, table: &Table) -> Option<Trigger> {
        if !table.contains_key("trigger") {
            self.problem(
                "trigger",
                "is missing",
                "say under [trigger] when a prediction falls due, such as at = [\"48h\"]",
            );
            return None;
        }
        let raw: RawTrigger = self.foreign(table, "trigger")?;
        let file = self.file;
        self.keep(raw.validate(file, "trigger"))
    }

    fn policy(&mut self, table: &Table) -> Option<Policy> {
        let raw: RawPolicy = self.foreign(table, "alert")?;
        let file = self.file;
        self.keep(raw.validate(file, "alert"))
    }

    fn abstain(&mut self, table: &Table) -> Option<Option<Abstain>> {
        if !table.contains_key("abstain") {
            return Some(None);
        }
        let abstain: Abstain = self.foreign(table, "abstain")?;
        if let Err(reason) = abstain.check() {
            self.problem("abstain.error_rate", "is no error rate", format!("it {reason}, such as 0.05"));
        }
        Some(Some(abstain))
    }

    /// A table that another room knows. It refuses unknown keys one at a time, so each is
    /// named and taken out until it can say something else.
    fn foreign<T: serde::de::DeserializeOwned>(&mut self, table: &Table, key: &str) -> Option<T> {
        let mut inner = self.table(table, key)?;
        loop {
            let error = match Value::Table(inner.clone()).try_into() {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let error: toml::de::Error = error;
            let unknown = error.message().strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
            let Some((name, rest)) = unknown.filter(|(name, _)| inner.contains_key(*name)) else {
                self.problem(key, error.message().trim(), "correct it");
                return None;
            };
            self.problem(
                &join(key, name),
                "is unknown",
                rest.trim_start_matches(", ").replace("expected one of", "use only"),
            );
            let name = name.to_owned();
            inner.remove(&name);
        }
    }

    fn keep<T>(&mut self, result: Result<T, Vec<Problem>>) -> Option<T> {
        result.map_err(|problems| self.problems.extend(problems)).ok()
    }

    fn label(&mut self, table: &Table, aces: &[TextFile]) -> Option<(String, aces::Config, LabelKind)> {
        let label = self.table(table, "label")?;
        self.keys("label", &label, &wanted::KEYS);
        let kind = LabelKind::parse(&label).map_err(|(key, what, remedy)| self.problem(key, what, remedy)).ok();
        let name = self.text(&label, "label", "aces");
        let Some(name) = name else {
            if !label.contains_key("aces") {
                self.problem("label.aces", "is missing", "name the ACES file beside this one that gives the labels");
            }
            return None;
        };
        let is_it =
            |file: &&TextFile| file.name == name || file.name.rsplit_once('/').is_some_and(|(_, last)| last == name);
        let Some(file) = aces.iter().find(is_it) else {
            self.problem(
                "label.aces",
                "names a file that the site does not have",
                "put it beside this one, under tasks",
            );
            return None;
        };
        let (asked, measured) =
            kind.as_ref().map_or((Vec::new(), false), |kind| (kind.predicates(), kind.asks_for_values()));
        let config = self.keep(aces::Config::parse_asking(file, &asked, measured))?;
        self.problems.extend(config.problems_in_library(&file.name));
        for (key, there) in [("label", config.has_label()), ("index_timestamp", config.has_index())] {
            if !there {
                let what = "has no window with it";
                self.problems.push(Problem::new(
                    &file.name,
                    key,
                    what,
                    "a task needs one window with label and one with index_timestamp",
                ));
            }
        }
        Some((file.name.clone(), config, kind?))
    }

    fn train(&mut self, table: &Table) -> Option<TrainSettings> {
        let train = self.table(table, "train")?;
        self.keys("train", &train, &TRAIN_KEYS);
        let preset = self.preset(&train);
        let family = match train.get("family") {
            None => Some(preset.as_ref().map_or(Family::Boosting, |(family, _)| *family)),
            Some(word) => word.as_str().and_then(Family::parse),
        };
        if family.is_none() {
            self.problem("train.family", "is no family of models", format!("choose one of {}", Family::words()));
        }
        let schedule = match self.text(&train, "train", "schedule") {
            None => Some(None),
            Some(text) => match text.parse::<Cron>() {
                Ok(cron) => Some(Some(cron)),
                Err(error) => {
                    self.problem(
                        "train.schedule",
                        format!("is no cron pattern: {error}"),
                        "write one such as \"0 0 3 * * *\" (with seconds)",
                    );
                    None
                }
            },
        };
        let params = match train.get("params") {
            None => Some(preset.map_or_else(Hyper::default, |(_, params)| params)),
            Some(value) => {
                let params = value.clone().try_into::<Hyper>();
                params
                    .map_err(|error: toml::de::Error| {
                        self.problem("train.params", error.message().trim(), "correct it")
                    })
                    .ok()
            }
        };
        if let (Some(params), Some(family)) = (&params, family)
            && let Err(error) = params.check(family)
        {
            self.problem("train.params", error.to_string(), "correct it");
        }
        let min_subjects = self.whole(&train, "train", "min_subjects", 1, 100);
        let min_positives = self.whole(&train, "train", "min_positives", 1, 20);
        let seed = self.whole(&train, "train", "seed", 0, 0);
        let search = match train.get("search") {
            None => Some(None),
            Some(value) => {
                let search = value.clone().try_into::<SearchSettings>();
                let search = search
                    .map_err(|error: toml::de::Error| error.message().trim().to_owned())
                    .and_then(|search| search.check().map(|()| search));
                search.map_err(|what| self.problem("train.search", what, "correct it")).ok().map(Some)
            }
        };
        let select = self.select(&train);
        let crossfit = self.crossfit(&train);
        let mut searched =
            search.iter().flatten().flat_map(|search| &search.families).filter(|other| Some(**other) != family);
        if let Some(params) = &params
            && let Some(error) = searched.find_map(|family| params.check(*family).err())
        {
            self.problem("train.params", error.to_string(), "correct it");
        }
        Some(TrainSettings {
            family: family?,
            schedule: schedule?,
            min_subjects: usize::try_from(min_subjects?).ok()?,
            min_positives: usize::try_from(min_positives?).ok()?,
            seed: seed?,
            params: params?,
            onnx: None,
            search: search?,
            select: select?,
            crossfit: crossfit?,
        })
    }

    /// In how many folds a fit is cross-fitted.
    fn crossfit(&mut self, train: &Table) -> Option<Option<usize>> {
        if !train.contains_key("crossfit") {
            return Some(None);
        }
        usize::try_from(self.whole(train, "train", "crossfit", 2, 5)?).ok().map(Some)
    }

    /// Which features are left out.
    fn select(&mut self, train: &Table) -> Option<Option<Select>> {
        const PATH: &str = "train.select";
        let Some(select) = train.get("select") else { return Some(None) };
        let Some(select) = select.as_table() else {
            self.problem(PATH, "is no table", format!("write [{PATH}] above its keys"));
            return None;
        };
        self.keys(PATH, select, &["rare", "most"]);
        let mut number = |key: &str, usual: i64| {
            let number = select.contains_key(key).then(|| self.whole(select, PATH, key, 1, usual));
            // Of none there is nothing to complain.
            number.map_or(Some(None), |number| usize::try_from(number?).ok().map(Some))
        };
        let (rare, most) = (number("rare", 10), number("most", 100));
        let select = Select { rare: rare?, most: most? };
        select.check().map_err(|what| self.problem(PATH, what, "correct it")).ok()?;
        Some(Some(select))
    }

    /// The named hyperparameters and their family, which stand for `family` and `params`.
    fn preset(&mut self, train: &Table) -> Option<(Family, Hyper)> {
        let name = self.text(train, "train", "preset")?;
        let preset = Hyper::preset(&name);
        if preset.is_none() {
            let known = Hyper::PRESETS.join(", ");
            self.problem("train.preset", "is no preset", format!("choose one of {known}"));
        }
        if train.contains_key("family") || train.contains_key("params") {
            let remedy = "give a preset, or family and params";
            self.problem("train.preset", "stands beside family or params, which it brings", remedy);
        }
        preset
    }

    fn gate(&mut self, table: &Table) -> Option<GateSettings> {
        let gate = self.table(table, "gate")?;
        self.keys("gate", &gate, &["min_auroc", "margin"]);
        let min_auroc = self.number(&gate, "min_auroc", (0.5, 1.0), 0.7);
        let margin = self.number(&gate, "margin", (0.0, 0.5), 0.01);
        Some(GateSettings { min_auroc: min_auroc?, margin: margin? })
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
