use std::fs;
use std::sync::Barrier;

use serde_json::{Value, json};
use url::Url;

use super::bundle;
use crate::learn::{Event, LearnError, ModelRef, Registry};

fn open(folder: &tempfile::TempDir) -> Registry {
    Registry::open(&Url::from_directory_path(folder.path()).unwrap()).unwrap()
}

fn register(registry: &Registry, task: &str) -> ModelRef {
    registry.register(task, &mut bundle(task, 0), &json!({"auroc": 0.8}), "trained", 1_000_000).unwrap()
}

#[test]
fn the_champion_is_what_the_ledger_says_last() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder);
    assert_eq!(registry.champion("t").unwrap(), None);
    assert_eq!(registry.list().unwrap(), []);
    let (one, two, three) = (register(&registry, "t"), register(&registry, "t"), register(&registry, "t"));
    assert_eq!((one.version, two.version, three.version), (1, 2, 3));
    assert_eq!(registry.champion("t").unwrap(), None);
    registry.promote(&one, None, &Value::Null, "first", 2).unwrap();
    registry.reject(&two, &Value::Null, "worse", 3).unwrap();
    assert_eq!(registry.champion("t").unwrap().as_ref(), Some(&one));
    // Judged against the wrong champion.
    assert!(matches!(registry.promote(&three, None, &Value::Null, "", 4), Err(LearnError::ChampionChanged { .. })));
    registry.promote(&three, Some(1), &Value::Null, "better", 4).unwrap();
    assert_eq!(registry.champion("t").unwrap().as_ref(), Some(&three));
    assert_eq!(registry.roll_back("t", "alarms", 5).unwrap(), one);
    assert_eq!(registry.champion("t").unwrap().as_ref(), Some(&one));
    assert!(matches!(registry.roll_back("t", "", 6), Err(LearnError::NoPredecessor { .. })));
    let events: Vec<(u64, Event, u32)> =
        registry.history("t").unwrap().iter().map(|e| (e.seq, e.event, e.version)).collect();
    let expected = [
        (1, Event::Registered, 1),
        (2, Event::Registered, 2),
        (3, Event::Registered, 3),
        (4, Event::Promoted, 1),
        (5, Event::Rejected, 2),
        (6, Event::Promoted, 3),
        (7, Event::RolledBack, 1),
    ];
    assert_eq!(events, expected);
    let listed: Vec<(u32, bool, Event)> =
        registry.list().unwrap().iter().map(|l| (l.version, l.champion, l.event)).collect();
    assert_eq!(listed, [(1, true, Event::RolledBack), (2, false, Event::Rejected), (3, false, Event::Promoted)]);
    let shown = registry.show("t", None).unwrap();
    assert_eq!(
        (&shown["version"], &shown["champion"], &shown["card"]["version"]),
        (&json!(1), &json!(true), &json!(1))
    );
    assert_eq!(shown["history"].as_array().unwrap().len(), 3);
    assert!(matches!(registry.show("t", Some(9)), Err(LearnError::NoVersion { version: 9, .. })));
}

#[test]
fn rolling_back_goes_back_through_the_promotions() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder);
    let mut before = None;
    for _ in 0..3 {
        let model = register(&registry, "t");
        registry.promote(&model, before, &Value::Null, "", 1).unwrap();
        before = Some(model.version);
    }
    assert_eq!(registry.roll_back("t", "", 2).unwrap().version, 2);
    assert_eq!(registry.roll_back("t", "", 3).unwrap().version, 1);
    assert!(registry.roll_back("t", "", 4).is_err());
}

#[test]
fn a_loaded_model_scores_as_the_registered_one_did() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder);
    let mut made = bundle("t", 3);
    let model = registry.register("t", &mut made, &Value::Null, "", 1).unwrap();
    let loaded = registry.load("t", &model).unwrap();
    let risks = |bundle: &crate::models::Bundle| {
        let mut risks = Vec::new();
        bundle.score(&[3.0, f32::NAN, 50.0, 1.0], &mut risks).unwrap();
        risks
    };
    assert_eq!(risks(&loaded), risks(&made));
    assert_eq!(loaded.card.version, 1);
}

#[test]
fn a_bundle_that_changed_is_never_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder);
    let (one, two) =
        (register(&registry, "t"), registry.register("t", &mut bundle("t", 1), &Value::Null, "", 1).unwrap());
    // Another whole bundle in its place: each file fits the others, but not the ledger.
    let models = folder.path().join("t/models");
    fs::rename(models.join("1"), models.join("9")).unwrap();
    fs::rename(models.join("2"), models.join("1")).unwrap();
    assert!(matches!(registry.load("t", &one), Err(LearnError::Changed { version: 1, .. })));
    assert!(registry.load("t", &two).is_err());
    let forged = ModelRef { sha256: two.sha256.clone(), ..one };
    assert!(matches!(registry.load("t", &forged), Err(LearnError::Changed { .. })));
}

#[test]
fn one_flipped_byte_anywhere_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder);
    let model = register(&registry, "t");
    for (file, reason) in [
        ("card.json", "does not match its sha256"),
        ("model.json", "does not match its sha256"),
        ("preprocess.json", "does not match its sha256"),
        ("manifest.json", "is not what was registered"),
    ] {
        let path = folder.path().join("t/models/1").join(file);
        let sound = fs::read(&path).unwrap();
        for at in [0, sound.len() / 3, sound.len() - 1] {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            let error = registry.load("t", &model).unwrap_err().to_string();
            assert!(error.contains(reason), "{file} {at}: {error}");
        }
        fs::write(&path, sound).unwrap();
        assert!(registry.load("t", &model).is_ok());
    }
}

#[test]
fn names_and_urls_that_lead_elsewhere_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder);
    for name in ["..", "../x", "a/b", "", "A", "a b", "é", ".hidden"] {
        assert!(matches!(registry.champion(name), Err(LearnError::TaskName)), "{name}");
    }
    assert!(matches!(Registry::open(&Url::parse("s3://bucket/registry").unwrap()), Err(LearnError::RegistryUrl)));
}

#[test]
fn a_damaged_ledger_is_an_error_with_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder);
    register(&registry, "t");
    register(&registry, "t");
    register(&registry, "t");
    let ledger = folder.path().join("t/ledger");
    let second = fs::read(ledger.join("00000002.json")).unwrap();
    fs::remove_file(ledger.join("00000002.json")).unwrap();
    assert!(matches!(registry.history("t"), Err(LearnError::Ledger { path, .. }) if path.ends_with("00000002.json")));
    fs::write(ledger.join("00000002.json"), &second[..second.len() / 2]).unwrap();
    assert!(matches!(registry.champion("t"), Err(LearnError::Ledger { .. })));
    fs::copy(ledger.join("00000003.json"), ledger.join("00000002.json")).unwrap();
    assert!(matches!(registry.list(), Err(LearnError::Ledger { .. })));
    fs::write(ledger.join("00000002.json"), second).unwrap();
    // What a writer left behind when it was killed disturbs nobody.
    fs::write(ledger.join(".draft"), b"{").unwrap();
    fs::create_dir(folder.path().join("t/models/4")).unwrap();
    assert_eq!(registry.history("t").unwrap().len(), 3);
    assert_eq!(register(&registry, "t").version, 5);
}

/// Many writers at once, each with its own handle as another process would have: no version
/// and no number is given twice, no entry is lost, and one promotion of each round wins.
#[test]
fn writers_race_without_loss() {
    const WRITERS: usize = 8;
    const EACH: usize = 5;
    let folder = tempfile::tempdir().unwrap();
    let start = Barrier::new(WRITERS);
    let promotions: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (folder, start) = (&folder, &start);
                scope.spawn(move || {
                    let registry = open(folder);
                    let mut bundle = bundle("t", writer as u64);
                    start.wait();
                    let mut promoted = 0;
                    for _ in 0..EACH {
                        let champion = registry.champion("t").unwrap().map(|model| model.version);
                        let model = registry.register("t", &mut bundle, &Value::Null, "", 1).unwrap();
                        match registry.promote(&model, champion, &Value::Null, "", 1) {
                            Ok(()) => promoted += 1,
                            Err(LearnError::ChampionChanged { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    promoted
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    let registry = open(&folder);
    let entries = registry.history("t").unwrap();
    let mut versions: Vec<u32> = entries.iter().filter(|e| e.event == Event::Registered).map(|e| e.version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=(WRITERS * EACH) as u32).collect::<Vec<_>>());
    assert_eq!(entries.len(), WRITERS * EACH + promotions);
    for listing in registry.list().unwrap() {
        registry.load("t", &registry.version("t", listing.version).unwrap()).unwrap();
    }
    let drafts = fs::read_dir(folder.path().join("t/ledger")).unwrap().count();
    assert_eq!(drafts, entries.len(), "a draft was left behind");
}
