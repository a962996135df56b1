//! Where the runs happen: a broker, the feed of a ward, and a model in two identical versions.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bad::{ROLES, SESSION};
use super::seen::Seen;
use crate::broker::Broker;
use crate::own_topics::own_topics;
use crate::peer::{Daemon, Place, read_settled};

pub const PARTITIONS: u32 = 4;
/// The task whose model is promoted and trained anew.
pub const TASK: &str = "deterioration";

/// Where the runs read from.
pub struct Scene {
    pub broker: Broker,
    /// The hospital whose history the model was fitted on.
    pub first: Place,
    site: PathBuf,
}

/// What an undisturbed run shows: as it is, and without the versions of models.
pub struct Calm {
    exact: Seen,
    unversioned: Seen,
}

impl Calm {
    /// What a run is compared with.
    pub fn seen(&self, swapped: bool) -> &Seen {
        if swapped { &self.unversioned } else { &self.exact }
    }
}

impl Scene {
    /// A ward of 60 patients, and a model that was fitted on 700 others.
    pub fn whole(broker: Broker) -> Scene {
        let scene = Scene::ward(broker, 60, 120);
        let history = scene.first.run(&["simulate", "--patients", "700", "--hours", "336", "--seed", "1"]);
        scene.first.json(&["import", &scene.first.file("history.jsonl", &history.stdout)]);
        // The same history and the same seed: the second is the first under another number.
        for version in 1..=2 {
            let trained = scene.first.json(&["train", "--task", TASK]);
            assert_eq!((&trained["promoted"], &trained["model"]["version"]), (&true.into(), &version.into()));
        }
        scene
    }

    /// A ward of so many patients, watched for so many hours, without a model: every score is indeterminate.
    pub fn ward(broker: Broker, patients: u32, hours: u32) -> Scene {
        let mut first = Place::new("hospital", &broker.bootstrap);
        let site = restless_site(first.dir.path());
        set(&mut first, &broker);
        let scene = Scene { broker, first, site };
        scene.first.file("ward.jsonl", &scene.first.broken_ward(patients, hours));
        scene
    }

    /// A place of its own that reads the same feed, with the same models.
    pub fn place(&self, name: &str) -> Place {
        let mut place = Place::of(self.site.clone(), &self.broker.bootstrap);
        for (key, topic) in own_topics(name) {
            place.set(&key, &topic);
        }
        set(&mut place, &self.broker);
        place.set("AUSCULT__KAFKA__GROUP", name);
        copy(Path::new(&self.first.path("registry")), Path::new(&place.path("registry")));
        place
    }

    /// Sends the feed, once its topic is there.
    pub fn feed(&self) {
        read_settled(&self.broker.bootstrap, "raw.flat", Duration::from_millis(300), Duration::from_secs(60));
        self.first.json(&["feed", "--topic", "raw.flat", "--key", "patient", &self.first.path("ward.jsonl")]);
    }

    /// An undisturbed run, which sends the feed.
    pub fn calm(&self) -> Calm {
        let mut place = self.place("calm");
        place.set("AUSCULT__LIMITS__INACTIVE", "3650d");
        // The feed is there before the calm run reads it, as it is for the others: on a busy machine a pause in it would
        // pass for its end, and the clock would go on without what is still to come.
        let maker = self.place("maker").daemon("normalize");
        self.feed();
        assert_eq!(maker.terminate(), Some(0));
        let daemons: Vec<Daemon> = ROLES.iter().map(|role| place.daemon(role)).collect();
        let bootstrap = &self.broker.bootstrap;
        // The clock stands until idle raw partitions are known to be idle; then all is due at once.
        let scores = read_settled(bootstrap, "calm.scores", Duration::from_secs(8), Duration::from_secs(120));
        assert!(scores.len() > 100, "only {} scores", scores.len());
        for daemon in daemons {
            assert_eq!(daemon.terminate(), Some(0));
        }
        let seen = |swapped| Seen::of(&place, bootstrap, "calm", swapped);
        Calm { exact: seen(false), unversioned: seen(true) }
    }

    /// What is to be seen of the run of that name.
    pub fn seen(&self, place: &Place, name: &str, swapped: bool) -> Seen {
        Seen::of(place, &self.broker.bootstrap, name, swapped)
    }
}

/// Settings of every place: quick where waiting proves nothing, and a clock that the feed moves.
fn set(place: &mut Place, broker: &Broker) {
    let replicas = if broker.nodes() > 1 { "3" } else { "1" };
    place
        .set("AUSCULT__TOPICS__REPLICATION", replicas)
        .set("AUSCULT__KAFKA__SESSION", &format!("{SESSION}ms"))
        .set("AUSCULT__KAFKA__DEADLINE", "10s")
        .set("AUSCULT__TIME__CLOCK", "log")
        .set("AUSCULT__TIME__TICK", "5min")
        .set("AUSCULT__TIME__IDLE", "2s")
        .set("AUSCULT__ARCHIVE__EVERY", "200ms")
        // Patients go to rest soon after their discharge, and are woken by what is told of them later.
        .set("AUSCULT__LIMITS__INACTIVE", "1h")
        .set("AUSCULT__LIMITS__BATCH_RECORDS", "250");
}

/// The hospital's site, but it trains every few seconds.
fn restless_site(dir: &Path) -> PathBuf {
    let site = dir.join("site");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/hospital"), &site);
    let task = site.join("tasks").join(format!("{TASK}.toml"));
    let text = std::fs::read_to_string(&task).unwrap();
    let nightly = r#"schedule = "0 0 3 * * *""#;
    assert!(text.contains(nightly));
    std::fs::write(&task, text.replace(nightly, r#"schedule = "*/5 * * * * *""#)).unwrap();
    site
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let Ok(entries) = std::fs::read_dir(from) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
