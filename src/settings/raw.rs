//! The layers of the settings, laid over each other: defaults, `auscult.toml`, environment.
//!
//! Promises that only known keys, of the right shape, come through, each remembering its layer,
//! and that whatever does not is a problem. What a value means is for `valid`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use config::{Config, File, FileFormat, Map, Value, ValueKind};
use toml::Table;

use super::Problem;

/// The file of this layer, as problems name it.
pub(super) const FILE: &str = "auscult.toml";

/// Where a value from the environment says it comes from, and the `file` of its problems.
pub(super) const ENVIRONMENT: &str = "environment";

/// What the names of settings begin with in the environment.
pub(super) const PREFIX: &str = "AUSCULT__";

/// Every key there is, with its default. `config/hospital/auscult.toml` explains them.
pub(super) const DEFAULTS: &str = r#"
instance = "0"

[kafka]
brokers = "localhost:9092"
group = "auscult"
deadline = "30s"
session = "15s"

[kafka.client]

[topics]
events = "auscult.events"
scores = "auscult.scores"
alerts = "auscult.alerts"
alert_state = "auscult.alert-state"
models = "auscult.models"
dead_letter = "auscult.dead-letter"
redriven = "auscult.redriven"
feedback = "auscult.feedback"
links = "auscult.links"
identity = "auscult.identity"
partitions = 4
replication = 1
retention = "7d"

[[raw]]
topic = "raw.flat"
format = "flat"
assigner = "hospital"

[[raw]]
topic = "raw.fhir"
format = "fhir"
assigner = "hospital"

[[raw]]
topic = "raw.hl7v2"
format = "hl7v2"
assigner = "hospital"

[library]
url = "data/library"

[registry]
url = "data/registry"

[identity]
key = ""

[time]
clock = "wall"
zone = "UTC"
tick = "1s"
idle = "5s"

[limits]
record_bytes = 4_194_304
batch_records = 20_000
batch_bytes = 700_000
queue_bytes = 67_108_864
linger = "5ms"
inactive = "7d"
train_bytes = 2_147_483_648

[archive]
every = "10s"
rows = 200_000
settle = "10min"

[train]
deadline = "6h"

[alerts]
identify = true

[serve]
listen = "127.0.0.1:9464"

[shutdown]
deadline = "30s"
"#;

/// Section whose keys are librdkafka's and so not listed in [`DEFAULTS`].
const CLIENT: &str = "kafka.client";

/// Keys of one `[[raw]]` topic.
const RAW_KEYS: [&str; 3] = ["topic", "format", "assigner"];

/// The layers, merged.
pub(super) struct Layers {
    /// A tree of known keys; every value knows its origin ([`ENVIRONMENT`] or none).
    pub(super) values: Value,
    /// [`DEFAULTS`], parsed: what a problem recommends.
    pub(super) defaults: Table,
    /// What did not come through.
    pub(super) problems: Vec<Problem>,
}

impl Layers {
    /// Lays `environment` over the text of `auscult.toml` over the defaults.
    pub(super) fn read<K, V>(text: &str, environment: impl IntoIterator<Item = (K, V)>) -> Result<Self, Problem>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let broken = |error: String| Problem::new("defaults", "all", error, "report this: it is a fault of auscult");
        let defaults: Table = toml::from_str(DEFAULTS).map_err(|error| broken(error.to_string()))?;
        let mut problems = Vec::new();
        let file = read_file(text, &defaults, &mut problems);
        let environment = read_environment(environment, &defaults, &mut problems);
        let merged = Config::builder()
            .add_source(File::from_str(DEFAULTS, FileFormat::Toml))
            .add_source(layer(file))
            .add_source(layer(environment))
            .build()
            // Its text is left out: it could quote a secret.
            .map_err(|_| broken("the layers cannot be merged".to_owned()))?;
        Ok(Layers { values: merged.cache, defaults, problems })
    }
}

fn layer(tree: Map<String, Value>) -> Config {
    let mut layer = Config::default();
    layer.cache = Value::new(None, ValueKind::Table(tree));
    layer
}

fn read_file(text: &str, defaults: &Table, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let (_, errors) = toml::de::DeTable::parse_recoverable(text);
    problems.extend(errors.iter().map(|error| not_toml(text, error)));
    if !errors.is_empty() {
        return Map::new();
    }
    match toml::from_str::<Table>(text) {
        Ok(table) => known("", table, defaults, problems),
        Err(error) => {
            problems.push(not_toml(text, &error));
            Map::new()
        }
    }
}

/// Says where `text` is no TOML. The error's own `Display` would quote the line, and with it perhaps a password.
fn not_toml(text: &str, error: &toml::de::Error) -> Problem {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text.as_bytes()[..at];
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
    Problem::new(FILE, format!("line {line}, column {column}"), error.message(), "write TOML: https://toml.io")
}

/// The part of `found`, the section `section` of the file, that is known.
fn known(section: &str, found: Table, defaults: &Table, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let mut tree = Map::new();
    for (key, value) in found {
        let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        match (defaults.get(&key), value) {
            (Some(toml::Value::Table(_)), toml::Value::Table(client)) if path == CLIENT => {
                let mut properties = Map::new();
                flatten("", client, &mut properties);
                tree.insert(key, Value::new(None, ValueKind::Table(properties)));
            }
            (Some(toml::Value::Table(inner)), toml::Value::Table(table)) => {
                let inner = known(&path, table, inner, problems);
                tree.insert(key, Value::new(None, ValueKind::Table(inner)));
            }
            (Some(toml::Value::Table(_)), _) => {
                let remedy = format!("begin a section with a line [{path}]");
                problems.push(Problem::new(FILE, path, "is a section, not a value", remedy));
            }
            (Some(toml::Value::Array(_)), toml::Value::Array(topics)) => {
                check_raw(&path, &topics, problems);
                tree.insert(key, convert(toml::Value::Array(topics)));
            }
            (Some(toml::Value::Array(_)), _) => {
                let remedy = format!("begin each topic with a line [[{path}]]");
                problems.push(Problem::new(FILE, path, "is a list of topics", remedy));
            }
            (Some(_), toml::Value::Table(_)) => {
                problems.push(Problem::new(FILE, path, "is a value, not a section", "write it as key = value"));
            }
            (Some(_), value) => {
                tree.insert(key, convert(value));
            }
            (None, _) => problems.push(unknown(FILE, path, section, defaults.keys().map(String::as_str))),
        }
    }
    tree
}

fn check_raw(path: &str, topics: &[toml::Value], problems: &mut Vec<Problem>) {
    for (i, topic) in topics.iter().enumerate() {
        let place = format!("{path}[{i}]");
        let Some(topic) = topic.as_table() else {
            let remedy = format!("begin each topic with a line [[{path}]]");
            problems.push(Problem::new(FILE, place, "is not a topic", remedy));
            continue;
        };
        for key in topic.keys().filter(|key| !RAW_KEYS.contains(&key.as_str())) {
            problems.push(unknown(FILE, format!("{place}.{key}"), path, RAW_KEYS.into_iter()));
        }
    }
}

fn unknown<'a>(file: &str, key: String, section: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let known = known.collect::<Vec<_>>().join(", ");
    let place = if section.is_empty() { "known at the top".to_owned() } else { format!("known in {section}") };
    Problem::new(file, key, "is not a known key", format!("remove or correct it; {place}: {known}"))
}

/// `sasl.password = ".."` without quotes around the key is a table in TOML; both spellings mean the same property.
fn flatten(prefix: &str, table: Table, properties: &mut Map<String, Value>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, properties),
            value => {
                properties.insert(name, convert(value));
            }
        }
    }
}

fn convert(value: toml::Value) -> Value {
    let kind = match value {
        toml::Value::String(text) => ValueKind::String(text),
        toml::Value::Integer(number) => ValueKind::I64(number),
        toml::Value::Float(number) => ValueKind::Float(number),
        toml::Value::Boolean(flag) => ValueKind::Boolean(flag),
        toml::Value::Datetime(time) => ValueKind::String(time.to_string()),
        toml::Value::Array(values) => ValueKind::Array(values.into_iter().map(convert).collect()),
        toml::Value::Table(table) => {
            ValueKind::Table(table.into_iter().map(|(key, value)| (key, convert(value))).collect())
        }
    };
    Value::new(None, kind)
}

fn read_environment<K, V>(
    environment: impl IntoIterator<Item = (K, V)>,
    defaults: &Table,
    problems: &mut Vec<Problem>,
) -> Map<String, Value>
where
    K: Into<OsString>,
    V: Into<OsString>,
{
    // Sorted, so that the same environment gives the same problems in the same order. A name that is no
    // Unicode cannot be one of ours.
    let variables: BTreeMap<String, OsString> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into().into_string().ok()?, value.into())))
        .collect();
    let mut tree = Map::new();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            problems.extend(single_underscore(&name, defaults));
            continue;
        };
        match setting(&name, rest, value, defaults) {
            Ok((path, value)) => put(&mut tree, &path, value),
            Err(problem) => problems.push(problem),
        }
    }
    tree
}

/// Path and value of the setting that the variable `name` = `AUSCULT__` + `rest` overrides.
fn setting(name: &str, rest: &str, value: OsString, defaults: &Table) -> Result<(Vec<String>, Value), Problem> {
    let wrong = |what: &str, remedy: &str| Err(Problem::new(ENVIRONMENT, name, what, remedy));
    if rest.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return wrong("is not in capitals", "write AUSCULT__SECTION__KEY");
    }
    let lower = rest.to_ascii_lowercase();
    let mut path: Vec<String> = lower.split("__").map(str::to_owned).collect();
    if let Some(property) = lower.strip_prefix("kafka__client__") {
        // Properties of librdkafka are spelt with dots, which a shell does not allow in a name.
        path = vec!["kafka".to_owned(), "client".to_owned(), property.replace("__", ".").replace('_', ".")];
    } else if path[0] == "raw" {
        return wrong("is a list, which the environment cannot give", "write the raw topics into auscult.toml");
    } else if !is_leaf(&path, defaults) {
        return wrong("is not a known setting", "remove or correct it; config/hospital/auscult.toml lists all of them");
    }
    let Ok(text) = value.into_string() else { return wrong("is not UTF-8", "write it as UTF-8") };
    if text.is_empty() {
        return wrong("is empty", "give it a value, or do not set it");
    }
    Ok((path, Value::new(Some(&ENVIRONMENT.to_owned()), ValueKind::String(text))))
}

fn is_leaf(path: &[String], defaults: &Table) -> bool {
    match path {
        [key] => defaults.get(key).is_some_and(|value| !value.is_table()),
        [section, rest @ ..] => {
            defaults.get(section).and_then(toml::Value::as_table).is_some_and(|inner| is_leaf(rest, inner))
        }
        [] => false,
    }
}

/// `AUSCULT_KAFKA_BROKERS` is so easily written for `AUSCULT__KAFKA__BROKERS` that it must not be passed over.
fn single_underscore(name: &str, defaults: &Table) -> Option<Problem> {
    let rest = name.strip_prefix("AUSCULT_")?;
    let (section, key) = rest.split_once('_').unwrap_or((rest, ""));
    let path: Vec<String> = [section, key].iter().map(|part| part.to_ascii_lowercase()).collect();
    let path = if key.is_empty() { &path[..1] } else { &path[..] };
    let meant = format!("{PREFIX}{}", path.join("__").to_ascii_uppercase());
    is_leaf(path, defaults).then(|| {
        Problem::new(ENVIRONMENT, name, "has single underscores, so it would be passed over", format!("write {meant}"))
    })
}

fn put(tree: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            tree.insert(key.clone(), value);
        }
        [section, rest @ ..] => {
            let inner = tree.entry(section.clone()).or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
            if let ValueKind::Table(inner) = &mut inner.kind {
                put(inner, rest, value);
            }
        }
    }
}
