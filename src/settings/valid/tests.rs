use std::fs;

use proptest::prelude::*;

use super::super::raw::DEFAULTS;
use super::super::{Problem, SiteFiles, TextFile};
use super::*;

const NOTHING: [(&str, &str); 0] = [];

fn site(text: &str) -> SiteFiles {
    let settings = TextFile { name: FILE.to_owned(), text: text.to_owned() };
    SiteFiles { settings, ..SiteFiles::built_in() }
}

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
    Settings::load(&site(text), environment.iter().copied())
}

/// `file: key` of every problem.
fn places(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let problems = load(text, environment).unwrap_err();
    problems.iter().map(|problem| format!("{}: {}", problem.file, problem.key)).collect()
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let settings = load("", &[]).unwrap();
    assert_eq!(settings.instance, "0");
    assert_eq!(settings.kafka.brokers, "localhost:9092");
    assert_eq!(settings.topics.raw.len(), 3);
    assert_eq!(settings.topics.alert_state, "auscult.alert-state");
    assert_eq!((&*settings.topics.links, &*settings.topics.identity), ("auscult.links", "auscult.identity"));
    assert_eq!(settings.topics.retention, Duration::from_secs(7 * 86_400));
    let (tick, idle) = (Duration::from_secs(1), Duration::from_secs(5));
    assert_eq!(settings.time, Time { clock: Clock::Wall, tick, idle, zone: chrono_tz::UTC });
    assert_eq!(settings.limits.batch_bytes, 700_000);
    assert_eq!(settings.limits.linger, Duration::from_millis(5));
    assert_eq!(settings.limits.train_bytes, 2 << 30);
    assert_eq!(settings.listen, "127.0.0.1:9464".parse().unwrap());
    assert_eq!(settings.train_deadline, Duration::from_secs(6 * 3600));
    assert!(settings.identify);
    let here = std::env::current_dir().unwrap();
    assert_eq!(settings.library.to_file_path().unwrap(), here.join("data/library"));
    assert_eq!(settings.registry.to_file_path().unwrap(), here.join("data/registry"));
    assert!(settings.library.as_str().ends_with("data/library/"));
    assert!(matches!(settings.identity, Identity::Made(path) if path == here.join("data/identity.key")));
}

#[test]
fn the_zone_of_times_that_name_none() {
    let zone = |zone: &str| load(&format!("[time]\nzone = \"{zone}\""), &[]).map(|s| s.time.zone);
    assert_eq!(zone("Europe/Berlin").unwrap(), chrono_tz::Europe::Berlin);
    assert!(zone("Berlin").is_err());
}

#[test]
fn the_environment_lies_over_the_file_over_the_defaults() {
    let file = "[kafka]\nbrokers = \"a:1\"\ngroup = \"ward\"\n[topics]\npartitions = 6\n";
    let environment = [
        ("AUSCULT__KAFKA__BROKERS", "b:2, c:3"),
        ("AUSCULT__TOPICS__PARTITIONS", "12"),
        ("AUSCULT__TIME__CLOCK", "log"),
        ("AUSCULT__ALERTS__IDENTIFY", "false"),
        ("AUSCULT__ARCHIVE__ROWS", "50_000"),
        ("AUSCULT__LIBRARY__URL", "file:///srv/library"),
        ("AUSCULT__INSTANCE", "7"),
        ("AUSCULT_CONFIG", "elsewhere"),
        ("AUSCULT_LOG", "debug"),
        ("PATH", "/bin"),
    ];
    let settings = load(file, &environment).unwrap();
    assert_eq!((settings.kafka.brokers.as_str(), settings.kafka.group.as_str()), ("b:2,c:3", "ward"));
    assert_eq!((settings.topics.partitions, settings.archive.rows, settings.identify), (12, 50_000, false));
    assert_eq!((settings.time.clock, settings.instance.as_str()), (Clock::Log, "7"));
    assert_eq!(settings.library.as_str(), "file:///srv/library/");
    assert!(matches!(settings.identity, Identity::Made(path) if path == Path::new("/srv/identity.key")));
}

#[test]
fn properties_of_the_client_come_in_every_spelling() {
    let file = "[kafka.client]\n\"sasl.username\" = \"u\"\nsasl.password = \"hunter2\"\nsecurity.protocol = \"SASL_SSL\"\n\
                socket.timeout.ms = 1000\nenable.ssl.certificate.verification = true\n";
    let environment =
        [("AUSCULT__KAFKA__CLIENT__SASL_PASSWORD", "hunter3"), ("AUSCULT__KAFKA__CLIENT__SASL__USERNAME", "v")];
    let client = load(file, &environment).unwrap().kafka.client;
    let client: Vec<(&str, &str)> = client.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
    let expected = [
        ("enable.ssl.certificate.verification", "true"),
        ("sasl.password", "hunter3"),
        ("sasl.username", "v"),
        ("security.protocol", "SASL_SSL"),
        ("socket.timeout.ms", "1000"),
    ];
    assert_eq!(client, expected);
    assert!(!format!("{:?}", load(file, &environment).unwrap()).contains("hunter"));
}

#[test]
fn every_problem_is_found_at_once() {
    let file = r#"
        instance = ""
        nonsense = 1
        kafka = "here"
        [topics]
        partitions = "4"
        events = "with space"
        scores = "auscult.alerts"
        evnts = "x"
        [[raw]]
        topic = "raw.flat"
        format = "xml"
        [[raw]]
        topic = "auscult.feedback"
        format = "fhir"
        assigner = "a|b"
        key = 1
        [limits]
        linger = "5 minutes"
        [limits.inner]
        x = 1
        [archive]
        every = 10
        [serve]
        listen = "localhost"
        [shutdown]
        deadline = { span = "5s" }
        [library]
        url = "file://here/x"
    "#;
    let environment = [
        ("AUSCULT__KAFKA__BROKERS", ""),
        ("AUSCULT__KAFKA__DEADLINE", "soon"),
        ("AUSCULT__KAFKA__CLIENT__GROUP_ID", "x"),
        ("AUSCULT__TOPICS__REPLICATION", "0"),
        ("AUSCULT__RAW__TOPIC", "x"),
        ("AUSCULT__NO__SUCH", "x"),
        ("AUSCULT__time__clock", "x"),
        ("AUSCULT_TIME_CLOCK", "log"),
        ("AUSCULT_INSTANCE", "1"),
    ];
    let expected = [
        "auscult.toml: archive.every",
        "auscult.toml: instance",
        "auscult.toml: kafka",
        "auscult.toml: library.url",
        "auscult.toml: limits.inner",
        "auscult.toml: limits.linger",
        "auscult.toml: nonsense",
        "auscult.toml: raw[0].format",
        "auscult.toml: raw[1].assigner",
        "auscult.toml: raw[1].key",
        "auscult.toml: raw[1].topic",
        "auscult.toml: serve.listen",
        "auscult.toml: shutdown.deadline",
        "auscult.toml: topics.alerts",
        "auscult.toml: topics.events",
        "auscult.toml: topics.evnts",
        "auscult.toml: topics.partitions",
        "environment: AUSCULT_INSTANCE",
        "environment: AUSCULT_TIME_CLOCK",
        "environment: AUSCULT__KAFKA__BROKERS",
        "environment: AUSCULT__KAFKA__CLIENT__GROUP__ID",
        "environment: AUSCULT__KAFKA__DEADLINE",
        "environment: AUSCULT__NO__SUCH",
        "environment: AUSCULT__RAW__TOPIC",
        "environment: AUSCULT__TOPICS__REPLICATION",
        "environment: AUSCULT__time__clock",
    ];
    assert_eq!(places(file, &environment), expected);
}

#[test]
fn the_same_topic_twice_is_a_problem() {
    let raw = |topic: &str| format!("[[raw]]\ntopic = \"{topic}\"\nformat = \"flat\"\n");
    assert!(load(&raw("a"), &[]).is_ok());
    assert_eq!(places(&(raw("a") + &raw("a")), &[]), ["auscult.toml: raw[1].topic"]);
    assert_eq!(places(&raw("auscult.feedback"), &[]), ["auscult.toml: raw[0].topic"]);
    assert_eq!(places("[topics]\nmodels = \"raw.flat\"", &[]), ["auscult.toml: raw[0].topic"]);
    assert_eq!(places("raw = []", &[]), ["auscult.toml: raw"]);
    assert_eq!(places("raw = 1", &[]), ["auscult.toml: raw"]);
    assert_eq!(places("raw = [1]", &[]), ["auscult.toml: raw[0]"]);
    assert_eq!(
        places("[[raw]]\nassigner = 1", &[]),
        ["auscult.toml: raw[0].assigner", "auscult.toml: raw[0].format", "auscult.toml: raw[0].topic"]
    );
}

#[test]
fn what_is_no_toml_is_shown_by_line_and_never_quoted() {
    let text = "[kafka.client]\nsasl.password = \"hunter2\nsasl.username = hunter3\n\n[topics\n";
    let problems = load(text, &[("AUSCULT__TIME__IDLE", "x")]).unwrap_err();
    let lines: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert!(lines.iter().any(|key| key.starts_with("line 2, ")), "{lines:?}");
    assert!(lines.iter().any(|key| key.starts_with("line 5, ")), "{lines:?}");
    assert!(lines.contains(&"AUSCULT__TIME__IDLE"), "the environment is looked at all the same: {lines:?}");
    assert!(problems.iter().all(|problem| !problem.to_string().contains("hunter")), "{problems:?}");
    assert!(!load("a = 1\na = 2", &[]).unwrap_err().is_empty());
    assert!(!load(&format!("x = {}", "[".repeat(100_000)), &[]).unwrap_err().is_empty(), "no deep recursion");
    assert!(!load("[topics]\npartitions = 99999999999999999999", &[]).unwrap_err().is_empty());
}

#[test]
fn a_value_that_is_wrong_is_not_repeated() {
    let environment = [("AUSCULT__IDENTITY__KEY", "hunter2"), ("AUSCULT__KAFKA__BROKERS", "user:hunter2@x")];
    for problem in load("[registry]\nurl = \"s3://me:hunter2@bucket/x\"", &environment).unwrap_err() {
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[test]
fn the_key_is_a_file_or_the_environments_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let file = format!("[identity]\nkey = \"{}\"", path.display());
    assert_eq!(places(&file, &[]), ["auscult.toml: identity.key"]);
    fs::write(&path, "from the file 0123456789\n").unwrap();
    let secret = |environment: &[(&str, &str)]| match load(&file, environment).unwrap().identity {
        Identity::Given(secret) => secret.expose().to_owned(),
        Identity::Made(_) => panic!("a key was given"),
    };
    assert_eq!(secret(&[]), "from the file 0123456789");
    assert_eq!(secret(&[("AUSCULT__IDENTITY__KEY", " from the environment ")]), "from the environment");
    assert_eq!(places("", &[("AUSCULT__IDENTITY__KEY", "short")]), ["environment: AUSCULT__IDENTITY__KEY"]);
    let remote = ("AUSCULT__LIBRARY__URL", "s3://bucket/library");
    assert_eq!(places("", &[remote]), ["auscult.toml: identity.key"]);
    assert!(load(&file, &[remote]).is_ok());
}

#[test]
fn a_store_is_a_path_or_a_url_that_ends_in_a_slash() {
    let good = [
        ("/srv/library", "file:///srv/library/"),
        ("/srv/a/../library/", "file:///srv/library/"),
        ("/srv/my library", "file:///srv/my%20library/"),
        ("file:///srv/library", "file:///srv/library/"),
        ("s3://bucket/a/b", "s3://bucket/a/b/"),
        ("memory:///", "memory:///"),
    ];
    for (location, url) in good {
        assert_eq!(store_url(location).map(String::from), Ok(url.to_owned()), "{location}");
    }
    for wrong in ["", "~/x", "file://host/x", "s3://a:b@c/d", "s3://a/b?c=d", "s3://a/b#c", "://", "http://[x"] {
        assert!(store_url(wrong).is_err(), "{wrong}");
    }
    let same = "[library]\nurl = \"/srv/x\"\n[registry]\nurl = \"/srv/x/\"";
    assert_eq!(places(same, &[]), ["auscult.toml: registry.url"]);
}

#[test]
fn brokers_have_a_host_and_a_port() {
    for fine in ["a", "a:1", "a:1,b:2", "[::1]:9092", "SASL_SSL://kafka.example.org:9093"] {
        assert!(load("", &[("AUSCULT__KAFKA__BROKERS", fine)]).is_ok(), "{fine}");
    }
    for wrong in ["a:0", "a:x", ":1", "a:1,", "a b:1", "a:70000"] {
        assert_eq!(
            places("", &[("AUSCULT__KAFKA__BROKERS", wrong)]),
            ["environment: AUSCULT__KAFKA__BROKERS"],
            "{wrong}"
        );
    }
}

#[test]
fn bounds_that_exclude_each_other_are_a_problem() {
    let text = "[limits]\nqueue_bytes = 2_000_000";
    assert_eq!(places(text, &[]), ["auscult.toml: limits.queue_bytes"]);
    assert!(load(&format!("{text}\nrecord_bytes = 1_000_000"), &[]).is_ok());
    assert_eq!(places("[limits]\nlinger = \"1h\"", &[]), ["auscult.toml: limits.linger"]);
    assert_eq!(places("[limits]\ntrain_bytes = 1_000_000", &[]), ["auscult.toml: limits.train_bytes"]);
    assert_eq!(load("[limits]\ntrain_bytes = 1_048_576", &[]).unwrap().limits.train_bytes, 1 << 20);
    assert_eq!(places("[topics]\npartitions = -1", &[]), ["auscult.toml: topics.partitions"]);
}

/// The keys that a site's `auscult.toml` sets or, commented out, explains: its text with `#` taken from such lines.
fn uncommented(text: &str) -> String {
    let is_setting = |line: &str| {
        let key = line.split('=').next().unwrap_or_default().trim();
        line.contains('=') && !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'.'))
    };
    let lines = text.lines().map(|line| line.strip_prefix('#').filter(|rest| is_setting(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// `section.key` and default of every key, the raw topics and the client's properties aside.
fn keys(table: &Table, section: &str, found: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        match value {
            toml::Value::Table(_) if path == "kafka.client" => {}
            toml::Value::Table(inner) => keys(inner, &path, found),
            toml::Value::Array(_) => {}
            value => {
                found.insert(path, value.to_string());
            }
        }
    }
}

#[test]
fn the_sites_explain_every_key_with_its_default() {
    let mut expected = BTreeMap::new();
    keys(&toml::from_str(DEFAULTS).unwrap(), "", &mut expected);
    assert!(expected.len() >= 30, "no section was lost on the way: {}", expected.len());
    let hospital = include_str!("../../../config/hospital/auscult.toml");
    let mut explained = BTreeMap::new();
    keys(&toml::from_str(&uncommented(hospital)).unwrap(), "", &mut explained);
    assert_eq!(explained, expected, "config/hospital/auscult.toml and the defaults differ");
    assert_eq!(format!("{:?}", load(hospital, &[]).unwrap()), format!("{:?}", load("", &[]).unwrap()));

    let physionet = include_str!("../../../config/physionet2012/auscult.toml");
    let mut explained = BTreeMap::new();
    keys(&toml::from_str(&uncommented(physionet)).unwrap(), "", &mut explained);
    assert!(explained.keys().all(|key| expected.contains_key(key)), "{explained:?}");
    let settings = load(physionet, &[]).unwrap();
    assert_eq!(settings.time.clock, Clock::Log);
    let raw: Vec<(&str, Format)> = settings.topics.raw.iter().map(|raw| (raw.topic.as_str(), raw.format)).collect();
    assert_eq!(raw, [("raw.flat", Format::Flat), ("raw.fhir", Format::Fhir), ("raw.hl7v2", Format::Hl7v2)]);
}

#[test]
fn a_value_that_is_no_text_is_a_problem_and_a_strange_name_is_not_ours() {
    use std::os::unix::ffi::OsStringExt as _;
    let broken = OsString::from_vec(vec![b'a', 0xff]);
    let environment = [
        (OsString::from("AUSCULT__KAFKA__GROUP"), broken.clone()),
        (broken, OsString::from("x")),
        (OsString::from("AUSCULT____"), OsString::from("x")),
    ];
    let problems = Settings::load(&site(""), environment).unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["AUSCULT__KAFKA__GROUP", "AUSCULT____"]);
    assert!(Settings::load(&site(""), NOTHING).is_ok());
}

proptest! {
    /// Whatever stands in the file or the environment, there are settings or problems, and no crash.
    #[test]
    fn no_text_crashes_the_reader(text in "([a-z]{1,8}(\\.[a-z]{1,8})? = [^\n]{0,20}\n|\\[{1,2}[a-z.]{0,9}\\]{1,2}\n|\\PC{0,20}\n){0,8}",
                                  name in "AUSCULT_{1,3}[A-Za-z_]{0,20}(\\[[0-9]{0,12}\\])?", value in "\\PC{0,20}") {
        let outcome = load(&text, &[(&name, &value)]);
        prop_assert!(outcome.is_ok() || !outcome.unwrap_err().is_empty());
    }

    #[test]
    fn every_known_key_can_be_broken(pick in 0usize..64) {
        let mut known = BTreeMap::new();
        keys(&toml::from_str(DEFAULTS).unwrap(), "", &mut known);
        let known: Vec<&String> = known.keys().filter(|key| *key != "identity.key" && !key.ends_with(".url")).collect();
        let key = known[pick % known.len()];
        let variable = format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase());
        let problems = places("", &[(&variable, "not this, surely:")]);
        prop_assert_eq!(problems, [format!("environment: {variable}")]);
    }
}
