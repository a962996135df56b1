//! From the merged layers to [`Settings`]: every value checked, every problem kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use config::{Value, ValueKind};
use toml::Table;
use url::Url;

use super::raw::{ENVIRONMENT, FILE, Layers, PREFIX};
use super::secret::{SECRET_BYTES, read_secret};
use super::{
    Archive, Clock, Format, Identity, Kafka, Limits, Problem, RawTopic, Secret, Settings, SiteFiles, Time, Topics,
    parse_span,
};

/// Properties of librdkafka on which exactly once stands, so that auscult alone sets them, and
/// those that have a key of their own.
const OWN_PROPERTIES: [&str; 11] = [
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "transactional.id",
];

const MIB: u64 = 1024 * 1024;

impl Settings {
    /// Reads and validates the settings of a site: the defaults, under `auscult.toml`, under the
    /// variables `AUSCULT__SECTION__KEY` of `environment` (give it [`std::env::vars_os`]; other
    /// variables are passed over). Plain paths are relative to the working directory.
    ///
    /// # Errors
    /// Every problem there is, by file and key; never none.
    pub fn load<K, V>(files: &SiteFiles, environment: impl IntoIterator<Item = (K, V)>) -> Result<Self, Vec<Problem>>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let Layers { values, defaults, problems } =
            Layers::read(&files.settings.text, environment).map_err(|problem| vec![problem])?;
        let mut reader = Reader { values: &values, defaults: &defaults, problems };
        let settings = reader.settings();
        let mut problems = reader.problems;
        problems.sort_by(|a, b| (&a.file, &a.key).cmp(&(&b.file, &b.key)));
        match settings {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(problems),
        }
    }
}

/// Takes values out of the tree. `None` always comes with a problem.
struct Reader<'a> {
    values: &'a Value,
    defaults: &'a Table,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Reads all before it gives up on any, so that all problems are found.
    fn settings(&mut self) -> Option<Settings> {
        let instance = self.name("instance");
        let kafka = self.kafka();
        let topics = self.topics();
        let library = self.store("library.url");
        let registry = self.store("registry.url");
        if library.is_some() && library == registry {
            self.problem("registry.url", None, "is the library's", "keep the registry in a folder of its own");
        }
        let identity = self.identity(library.as_ref());
        let time = self.time();
        let limits = self.limits();
        let archive = self.archive();
        let train_deadline = self.span("train.deadline", "1min", "30d");
        let identify = self.read("alerts.identify", "true or false", flag);
        let listen = self.read("serve.listen", "an address and a port", address);
        let shutdown_deadline = self.span("shutdown.deadline", "1s", "1h");
        Some(Settings {
            instance: instance?,
            kafka: kafka?,
            topics: topics?,
            library: library?,
            registry: registry?,
            identity: identity?,
            time: time?,
            limits: limits?,
            archive: archive?,
            train_deadline: train_deadline?,
            identify: identify?,
            listen: listen?,
            shutdown_deadline: shutdown_deadline?,
        })
    }

    fn kafka(&mut self) -> Option<Kafka> {
        let brokers = self.read("kafka.brokers", "a list of host:port with commas between", brokers);
        let group = self.name("kafka.group");
        let deadline = self.span("kafka.deadline", "1s", "10min");
        // A broker refuses less than 6 s and more than 30 min unless it is told otherwise.
        let session = self.span("kafka.session", "6s", "30min");
        let client = self.client();
        Some(Kafka { brokers: brokers?, group: group?, client, deadline: deadline?, session: session? })
    }

    fn client(&mut self) -> BTreeMap<String, Secret> {
        let mut client = BTreeMap::new();
        let Some(ValueKind::Table(properties)) = self.at("kafka.client").map(|value| value.kind.clone()) else {
            return client;
        };
        for (name, value) in properties {
            let path = format!("kafka.client.{name}");
            match value.kind {
                _ if OWN_PROPERTIES.contains(&name.as_str()) => {
                    let what = "is set by auscult itself";
                    self.problem(
                        &path,
                        Some(&value),
                        what,
                        "remove it; kafka.brokers and kafka.group are yours to set",
                    );
                }
                ValueKind::String(text) => {
                    client.insert(name, Secret::new(text));
                }
                ValueKind::I64(_) | ValueKind::Float(_) | ValueKind::Boolean(_) => {
                    client.insert(name, Secret::new(value.kind.to_string()));
                }
                _ => self.problem(&path, Some(&value), "is not one value", "write text, a number, true or false"),
            }
        }
        client
    }

    fn topics(&mut self) -> Option<Topics> {
        let raw = self.raw();
        let events = self.topic("topics.events");
        let scores = self.topic("topics.scores");
        let alerts = self.topic("topics.alerts");
        let alert_state = self.topic("topics.alert_state");
        let models = self.topic("topics.models");
        let dead_letter = self.topic("topics.dead_letter");
        let redriven = self.topic("topics.redriven");
        let feedback = self.topic("topics.feedback");
        let links = self.topic("topics.links");
        let identity = self.topic("topics.identity");
        let own = [
            ("topics.events", &events),
            ("topics.scores", &scores),
            ("topics.alerts", &alerts),
            ("topics.alert_state", &alert_state),
            ("topics.models", &models),
            ("topics.dead_letter", &dead_letter),
            ("topics.redriven", &redriven),
            ("topics.feedback", &feedback),
            ("topics.links", &links),
            ("topics.identity", &identity),
        ];
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut twice: Vec<String> = Vec::new();
        for (key, name) in own.into_iter().filter_map(|(key, name)| Some((key, name.as_deref()?))) {
            if !names.insert(name) {
                twice.push(key.to_owned());
            }
        }
        // Listening to what one writes oneself would go round for ever.
        for (i, entry) in self.list("raw").iter().enumerate() {
            if raw_name(entry).is_some_and(|name| !names.insert(name)) {
                twice.push(format!("raw[{i}].topic"));
            }
        }
        for key in twice {
            let value = self.at(&key).cloned();
            self.problem(&key, value.as_ref(), "is the name of another topic too", "give every topic its own name");
        }
        let partitions = self.count("topics.partitions", 1..=1000);
        let replication = self.count("topics.replication", 1..=100);
        let retention = self.span("topics.retention", "1min", "36500d");
        Some(Topics {
            raw: raw?,
            events: events?,
            scores: scores?,
            alerts: alerts?,
            alert_state: alert_state?,
            models: models?,
            dead_letter: dead_letter?,
            redriven: redriven?,
            feedback: feedback?,
            links: links?,
            identity: identity?,
            partitions: u32::try_from(partitions?).ok()?,
            replication: u32::try_from(replication?).ok()?,
            retention: retention?,
        })
    }

    fn raw(&mut self) -> Option<Vec<RawTopic>> {
        let list = self.list("raw").to_vec();
        if list.is_empty() {
            self.problem("raw", None, "lists no topic", "begin each topic with a line [[raw]]");
            return None;
        }
        let mut topics = Vec::with_capacity(list.len());
        for (i, entry) in list.iter().enumerate() {
            topics.push(self.raw_topic(&format!("raw[{i}]"), entry));
        }
        topics.into_iter().collect()
    }

    fn raw_topic(&mut self, place: &str, entry: &Value) -> Option<RawTopic> {
        // An entry that is no table is a problem already.
        let ValueKind::Table(keys) = &entry.kind else { return None };
        let mut field = |key: &str, default: Option<&str>, wants: &str, example: &str| {
            let value = keys.get(key).map(text);
            match value.unwrap_or(default) {
                Some(found) => Some(found.to_owned()),
                None => {
                    let what = if keys.contains_key(key) { format!("is not {wants}") } else { "is missing".to_owned() };
                    let remedy = format!("write {key} = \"{example}\", for example");
                    self.problems.push(Problem::new(FILE, format!("{place}.{key}"), what, remedy));
                    None
                }
            }
        };
        let topic = field("topic", None, "text", "raw.flat");
        let format = field("format", None, "text", "flat");
        let assigner = field("assigner", Some("hospital"), "text", "hospital");
        let topic = topic.filter(|name| {
            let fine = is_topic(name);
            if !fine {
                self.bad_topic(&format!("{place}.topic"));
            }
            fine
        });
        let format = format.and_then(|word| {
            let format = [Format::Flat, Format::Fhir, Format::Hl7v2].into_iter().find(|format| format.as_str() == word);
            if format.is_none() {
                let what = "is not flat, fhir or hl7v2";
                self.problem(&format!("{place}.format"), None, what, "say what the records of the topic are");
            }
            format
        });
        let assigner = assigner.filter(|name| {
            let fine = !name.trim().is_empty() && !name.contains('|') && !name.contains(char::is_control);
            if !fine {
                let what = "is not the name of an assigner of identifiers";
                let remedy = "write some text without |, the same in all topics that share their identifiers";
                self.problem(&format!("{place}.assigner"), None, what, remedy);
            }
            fine
        });
        Some(RawTopic { topic: topic?, format: format?, assigner: assigner? })
    }

    fn identity(&mut self, library: Option<&Url>) -> Option<Identity> {
        let key = self.at("identity.key").cloned();
        let given = self.read("identity.key", "text", |value| text(value).map(str::to_owned))?;
        let from_environment = key.as_ref().is_some_and(is_from_environment);
        if from_environment {
            let secret = given.trim();
            if secret.len() < SECRET_BYTES {
                let what = format!("has fewer than {SECRET_BYTES} bytes");
                self.problem("identity.key", key.as_ref(), &what, "give a long random text, the same to every process");
                return None;
            }
            return Some(Identity::Given(Secret::new(secret)));
        }
        if !given.is_empty() {
            return match read_secret(Path::new(&given)) {
                Ok(secret) => Some(Identity::Given(secret)),
                Err(what) => {
                    let remedy =
                        "let it name a file that holds the key, or set AUSCULT__IDENTITY__KEY to the key itself";
                    self.problem("identity.key", key.as_ref(), &what, remedy);
                    None
                }
            };
        }
        let folder = library?.to_file_path().ok().and_then(|library| library.parent().map(Path::to_owned));
        if folder.is_none() {
            let what = "is not set, and there is no folder beside the library to make a key in";
            let remedy = "set AUSCULT__IDENTITY__KEY to the key, or identity.key to a file that holds it";
            self.problem("identity.key", None, what, remedy);
        }
        Some(Identity::Made(folder?.join("identity.key")))
    }

    fn time(&mut self) -> Option<Time> {
        let clock = self.read("time.clock", "wall, log or events", |value| match text(value)? {
            "wall" => Some(Clock::Wall),
            "log" => Some(Clock::Log),
            "events" => Some(Clock::Events),
            _ => None,
        });
        let tick = self.span("time.tick", "1ms", "1d");
        let idle = self.span("time.idle", "10ms", "1d");
        let zone = self.read("time.zone", "a name of the IANA time zones, such as UTC or Europe/Berlin", |value| {
            text(value)?.parse().ok()
        });
        Some(Time { clock: clock?, tick: tick?, idle: idle?, zone: zone? })
    }

    fn limits(&mut self) -> Option<Limits> {
        let record_bytes = self.count("limits.record_bytes", 1024..=256 * MIB);
        let batch_records = self.count("limits.batch_records", 1..=1_000_000);
        let batch_bytes = self.count("limits.batch_bytes", 16 * 1024..=256 * MIB);
        let queue_bytes = self.count("limits.queue_bytes", MIB..=64 * 1024 * MIB);
        if let (Some(queue), Some(record)) = (queue_bytes, record_bytes)
            && queue < record
        {
            let value = self.at("limits.queue_bytes").cloned();
            let what = "is less than limits.record_bytes, so that the longest record would never pass";
            self.problem("limits.queue_bytes", value.as_ref(), what, "make it several times limits.record_bytes");
        }
        let linger = self.span("limits.linger", "0ms", "10s");
        let inactive = self.span("limits.inactive", "1s", "3650d");
        // The least is more than a row of as many features as there can be.
        let train_bytes = self.count("limits.train_bytes", MIB..=1024 * 1024 * MIB);
        Some(Limits {
            record_bytes: usize::try_from(record_bytes?).ok()?,
            batch_records: usize::try_from(batch_records?).ok()?,
            batch_bytes: usize::try_from(batch_bytes?).ok()?,
            queue_bytes: usize::try_from(queue_bytes?).ok()?,
            linger: linger?,
            inactive: inactive?,
            train_bytes: usize::try_from(train_bytes?).ok()?,
        })
    }

    fn archive(&mut self) -> Option<Archive> {
        let every = self.span("archive.every", "10ms", "1d");
        let rows = self.count("archive.rows", 1..=10_000_000);
        let settle = self.span("archive.settle", "1s", "7d");
        Some(Archive { every: every?, rows: usize::try_from(rows?).ok()?, settle: settle? })
    }

    /// A word that becomes part of names in Kafka.
    fn name(&mut self, path: &str) -> Option<String> {
        self.read(path, "a word of 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-'", |value| {
            text(value).filter(|word| word.len() <= 64 && is_topic(word)).map(str::to_owned)
        })
    }

    fn topic(&mut self, path: &str) -> Option<String> {
        let value = self.at(path)?.clone();
        let name = text(&value).filter(|name| is_topic(name)).map(str::to_owned);
        if name.is_none() {
            self.bad_topic(path);
        }
        name
    }

    fn bad_topic(&mut self, path: &str) {
        let value = self.at(path).cloned();
        let what = "is not a name that Kafka takes";
        self.problem(path, value.as_ref(), what, "write 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'");
    }

    fn span(&mut self, path: &str, least: &str, most: &str) -> Option<Duration> {
        self.read(path, &format!("a span of time from {least} to {most}, such as 500ms, 30s, 15min, 8h, 7d"), |value| {
            let span = parse_span(text(value)?)?;
            (parse_span(least)? <= span && span <= parse_span(most)?).then_some(span)
        })
    }

    fn count(&mut self, path: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let wants = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(path, &wants, |value| number(value).filter(|number| range.contains(number)))
    }

    fn store(&mut self, path: &str) -> Option<Url> {
        let value = self.at(path).cloned();
        let location = self.read(path, "a path or a URL", |value| text(value).map(str::to_owned))?;
        match store_url(&location) {
            Ok(url) => Some(url),
            Err((what, remedy)) => {
                self.problem(path, value.as_ref(), what, remedy);
                None
            }
        }
    }

    /// The value at `path`, if `parse` makes something of it; else a problem.
    fn read<T>(&mut self, path: &str, wants: &str, parse: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.at(path).cloned();
        let parsed = value.as_ref().and_then(parse);
        if parsed.is_none() {
            let default = self.default(path).map_or_else(String::new, |default| default.to_string());
            self.problem(path, value.as_ref(), &format!("is not {wants}"), &format!("the default is {default}"));
        }
        parsed
    }

    fn at(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(self.values, |value, key| match &value.kind {
            ValueKind::Table(table) => table.get(key),
            _ => None,
        })
    }

    fn list(&self, path: &str) -> &[Value] {
        match self.at(path).map(|value| &value.kind) {
            Some(ValueKind::Array(list)) => list,
            _ => &[],
        }
    }

    fn default(&self, path: &str) -> Option<&toml::Value> {
        let (section, key) = path.split_once('.').map_or((None, path), |(section, key)| (Some(section), key));
        match section {
            Some(section) => self.defaults.get(section)?.get(key),
            None => self.defaults.get(key),
        }
    }

    /// Keeps a problem at `path`, in the layer that `value` came from.
    fn problem(&mut self, path: &str, value: Option<&Value>, what: &str, remedy: &str) {
        let problem = if value.is_some_and(is_from_environment) {
            let variable = format!("{PREFIX}{}", path.replace('.', "__").to_ascii_uppercase());
            Problem::new(ENVIRONMENT, variable, what, remedy)
        } else {
            Problem::new(FILE, path, what, remedy)
        };
        self.problems.push(problem);
    }
}

fn is_from_environment(value: &Value) -> bool {
    value.origin() == Some(ENVIRONMENT)
}

fn text(value: &Value) -> Option<&str> {
    match &value.kind {
        ValueKind::String(text) => Some(text),
        _ => None,
    }
}

fn raw_name(entry: &Value) -> Option<&str> {
    match &entry.kind {
        ValueKind::Table(keys) => text(keys.get("topic")?),
        _ => None,
    }
}

/// In the environment all is text, in the file a number must be one.
fn number(value: &Value) -> Option<u64> {
    match &value.kind {
        ValueKind::I64(number) => u64::try_from(*number).ok(),
        ValueKind::String(text) if is_from_environment(value) => text.replace('_', "").parse().ok(),
        _ => None,
    }
}

fn flag(value: &Value) -> Option<bool> {
    match &value.kind {
        ValueKind::Boolean(flag) => Some(*flag),
        ValueKind::String(text) if is_from_environment(value) => text.to_ascii_lowercase().parse().ok(),
        _ => None,
    }
}

fn address(value: &Value) -> Option<SocketAddr> {
    text(value)?.parse().ok()
}

fn brokers(value: &Value) -> Option<String> {
    let brokers: Vec<&str> = text(value)?.split(',').map(str::trim).collect();
    let fine = |broker: &&str| {
        let (host, port) = broker.rsplit_once(':').unwrap_or((broker, "9092"));
        !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    brokers.iter().all(fine).then(|| brokers.join(","))
}

/// What Kafka takes as the name of a topic.
fn is_topic(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
}

/// URL of a path or a URL, ending in `/`; or what is wrong with it and what to do.
fn store_url(location: &str) -> Result<Url, (&'static str, &'static str)> {
    const NO_URL: (&str, &str) = ("is not a URL", "write a path, file:///path or s3://bucket/path");
    let url = if location.contains("://") || location.starts_with("file:") {
        Url::parse(location).map_err(|_| NO_URL)?
    } else if location.is_empty() || location.starts_with('~') {
        // No shell reads this, so ~ would become a folder of that name.
        return Err(("is not a path", "write a path, relative to the working directory or from /"));
    } else {
        let path = std::path::absolute(location).map_err(|_| ("is not a path", "write a path from /"))?;
        let url = Url::from_directory_path(path).map_err(|()| NO_URL)?;
        // Parsing takes out "..", which object stores refuse.
        Url::parse(url.as_str()).map_err(|_| NO_URL)?
    };
    if url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(("holds more than a place", "leave out passwords, ? and #: keys belong into the environment"));
    }
    if url.scheme() == "file" && url.to_file_path().is_err() {
        return Err(("names a host", "write file:///path with three slashes, or a plain path"));
    }
    let mut url = url;
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests;
