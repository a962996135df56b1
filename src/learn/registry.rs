//! The model registry: a folder of bundles and an append-only ledger, safe to share.
//!
//! ```text
//! <registry>/<task>/models/<version>/            one bundle
//! <registry>/<task>/ledger/00000001.json ...     what happened to the task's models, in order
//! ```
//!
//! Promises that a version is given once and never rewritten, that an entry appears whole
//! or not at all and is never changed, and that a model whose bytes are not those that were
//! registered is never handed out. The champion is what the ledger's last `promoted` or
//! `rolled_back` entry names, so who was in charge when can always be told. Two processes
//! may write at once: each entry has its number by creating the file of that name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::LearnError;
use super::ledger::{Entry, Event, Ledger, names_in};
use super::task::is_task_name;
use crate::events::Micros;
use crate::models::Bundle;
use crate::telemetry::fault;

/// How often a version is tried that others keep taking first.
const TRIES: u32 = 1_000;
/// Where a file of a bundle is cut off when it is read; the hash of a longer one cannot match.
const LARGEST: u64 = 1 << 29;

/// A registered model.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ModelRef {
    /// Name: that of its task.
    pub name: String,
    /// Version, from 1 up, in the order of registration.
    pub version: u32,
    /// SHA-256 of the bundle.
    pub sha256: String,
}

/// What `auscult.models` holds under the key of a task: its champion.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Announcement {
    /// Task.
    pub task: String,
    /// Name of the model.
    pub name: String,
    /// Version of the model.
    pub version: u32,
    /// SHA-256 of the bundle.
    pub sha256: String,
}

/// One model of the registry, for `models list`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Listing {
    /// Task.
    pub task: String,
    /// Version.
    pub version: u32,
    /// SHA-256 of the bundle.
    pub sha256: String,
    /// When it was registered, RFC 3339.
    pub registered: String,
    /// The last thing that happened to it.
    pub event: Event,
    /// Why that happened.
    pub reason: String,
    /// Whether it is the champion of its task.
    pub champion: bool,
    /// Its figures at registration.
    pub metrics: Value,
}

/// A registry in a folder. Cheap to clone; holds nothing open.
#[derive(Clone, Debug)]
pub struct Registry {
    root: PathBuf,
}

impl Registry {
    /// The registry at `url`, whose folder is made.
    ///
    /// # Errors
    /// If the URL is no `file://` URL or its folder cannot be made.
    pub fn open(url: &Url) -> Result<Registry, LearnError> {
        let registry = Registry::look(url)?;
        fs::create_dir_all(&registry.root).map_err(LearnError::io(&registry.root))?;
        Ok(registry)
    }

    /// The same for who only reads: nothing is made, and a folder that is missing is an empty registry.
    ///
    /// # Errors
    /// If the URL is no `file://` URL.
    pub fn look(url: &Url) -> Result<Registry, LearnError> {
        match url.scheme() {
            "file" => Ok(Registry { root: url.to_file_path().map_err(|()| LearnError::RegistryUrl)? }),
            _ => Err(LearnError::RegistryUrl),
        }
    }

    /// The champion of a task, if it has one.
    ///
    /// # Errors
    /// If the ledger cannot be read, or the name is not that of a task.
    pub fn champion(&self, task: &str) -> Result<Option<ModelRef>, LearnError> {
        Ok(champion_of(task, &self.history(task)?))
    }

    /// A registered version of a task.
    ///
    /// # Errors
    /// If there is none, or the ledger cannot be read.
    pub fn version(&self, task: &str, version: u32) -> Result<ModelRef, LearnError> {
        let registered = |entry: &Entry| entry.event == Event::Registered && entry.version == version;
        let entry = self.history(task)?.into_iter().find(registered);
        let entry = entry.ok_or_else(|| LearnError::NoVersion { task: task.to_owned(), version })?;
        Ok(ModelRef { name: task.to_owned(), version, sha256: entry.sha256 })
    }

    /// The ledger of a task, oldest entry first; empty for a task without models.
    ///
    /// # Errors
    /// If an entry cannot be read or is missing between others.
    pub fn history(&self, task: &str) -> Result<Vec<Entry>, LearnError> {
        Ledger::of(&self.task(task)?).entries()
    }

    /// Loads a registered model and checks that its bytes are those that were registered.
    ///
    /// # Errors
    /// If it is not registered, cannot be read, or has changed since.
    pub fn load(&self, task: &str, model: &ModelRef) -> Result<Bundle, LearnError> {
        let registered = self.version(task, model.version)?;
        let folder = self.bundle(task, model.version)?;
        let mut files = BTreeMap::new();
        for name in names_in(&folder)? {
            let path = folder.join(&name);
            let mut bytes = Vec::new();
            let file = File::open(&path).map_err(LearnError::io(&path))?;
            file.take(LARGEST).read_to_end(&mut bytes).map_err(LearnError::io(&path))?;
            files.insert(name, bytes);
        }
        // The manifest vouches for the other files, its hash for the manifest.
        if let Some(manifest) = files.get("manifest.json")
            && (hex(&Sha256::digest(manifest)) != registered.sha256 || registered.sha256 != model.sha256)
        {
            return Err(LearnError::Changed { task: task.to_owned(), version: model.version });
        }
        Ok(Bundle::from_files(&files)?)
    }

    /// Puts a model into the registry under the task's next version, which is written into
    /// its card.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn register(
        &self,
        task: &str,
        bundle: &mut Bundle,
        metrics: &Value,
        reason: &str,
        now: Micros,
    ) -> Result<ModelRef, LearnError> {
        let models = self.models(task)?;
        fs::create_dir_all(&models).map_err(LearnError::io(&models))?;
        let taken = names_in(&models)?.iter().filter_map(|name| name.parse::<u32>().ok()).max().unwrap_or(0);
        // The folder is made before anything is in it: who makes it owns the version. One
        // that was left behind by a crash stays empty, and no entry ever speaks of it.
        let mut version = taken;
        let path = loop {
            version += 1;
            let path = models.join(version.to_string());
            match fs::create_dir(&path) {
                Ok(()) => break path,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && version < taken + TRIES => {}
                Err(error) => return Err(LearnError::io(&path)(error)),
            }
        };
        bundle.card.version = version;
        let sha256 = bundle.save(&path)?;
        fault("registry", "staged");
        let model = ModelRef { name: task.to_owned(), version, sha256 };
        self.note(now, Event::Registered, &model, (metrics, reason), |_| Ok(()))?;
        Ok(model)
    }

    /// Makes a registered model the champion, provided that the champion is still `instead_of`.
    ///
    /// # Errors
    /// [`ChampionChanged`](LearnError::ChampionChanged) where another model was promoted
    /// meanwhile; if the ledger cannot be written.
    pub fn promote(
        &self,
        model: &ModelRef,
        instead_of: Option<u32>,
        metrics: &Value,
        reason: &str,
        now: Micros,
    ) -> Result<(), LearnError> {
        let task = &model.name;
        self.note(now, Event::Promoted, model, (metrics, reason), |entries| {
            let champion = champion_of(task, entries).map(|champion| champion.version);
            if champion == instead_of { Ok(()) } else { Err(LearnError::ChampionChanged { task: task.clone() }) }
        })
    }

    /// Notes that the gate refused a registered model.
    ///
    /// # Errors
    /// If the ledger cannot be written.
    pub fn reject(&self, model: &ModelRef, metrics: &Value, reason: &str, now: Micros) -> Result<(), LearnError> {
        self.note(now, Event::Rejected, model, (metrics, reason), |_| Ok(()))
    }

    /// Gives the place back to the champion before the present one, and names it.
    ///
    /// # Errors
    /// If there was none, or the ledger cannot be read or written.
    pub fn roll_back(&self, task: &str, reason: &str, now: Micros) -> Result<ModelRef, LearnError> {
        let entries = self.history(task)?;
        let reigns: Vec<&Entry> = entries.iter().filter(|entry| entry.event.crowns()).collect();
        let present = reigns.last().map(|entry| entry.version);
        // Not merely the last other one: rolling back twice must not come back to the start.
        let before = present
            .and_then(|present| {
                reigns.iter().rposition(|entry| entry.version == present && entry.event == Event::Promoted)
            })
            .and_then(|first| reigns[..first].iter().rev().find(|entry| Some(entry.version) != present));
        let before = before.ok_or_else(|| LearnError::NoPredecessor { task: task.to_owned() })?;
        let model = ModelRef { name: task.to_owned(), version: before.version, sha256: before.sha256.clone() };
        let last = entries.len();
        self.note(now, Event::RolledBack, &model, (&before.metrics, reason), |now_there| {
            // Between reading and writing nobody else may have been crowned.
            let crowned = now_there.iter().skip(last).any(|entry| entry.event.crowns());
            if crowned { Err(LearnError::ChampionChanged { task: task.to_owned() }) } else { Ok(()) }
        })?;
        Ok(model)
    }

    /// Every registered model of every task.
    ///
    /// # Errors
    /// If a ledger cannot be read.
    pub fn list(&self) -> Result<Vec<Listing>, LearnError> {
        let mut tasks: Vec<String> = names_in(&self.root)?.into_iter().filter(|name| is_task_name(name)).collect();
        tasks.sort();
        let mut listings = Vec::new();
        for task in tasks {
            let entries = self.history(&task)?;
            let champion = champion_of(&task, &entries).map(|champion| champion.version);
            for registered in entries.iter().filter(|entry| entry.event == Event::Registered) {
                let last = entries.iter().rev().find(|entry| entry.version == registered.version).unwrap_or(registered);
                listings.push(Listing {
                    task: task.clone(),
                    version: registered.version,
                    sha256: registered.sha256.clone(),
                    registered: registered.at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
                    event: last.event,
                    reason: last.reason.clone(),
                    champion: champion == Some(registered.version),
                    metrics: without_search(&registered.metrics),
                });
            }
        }
        Ok(listings)
    }

    /// The card of a version, by default the champion's, with its hash and what happened to it.
    ///
    /// # Errors
    /// If there is no such version, or it cannot be loaded.
    pub fn show(&self, task: &str, version: Option<u32>) -> Result<Value, LearnError> {
        let entries = self.history(task)?;
        let champion = champion_of(task, &entries);
        let model = match version {
            Some(version) => self.version(task, version)?,
            None => champion.clone().ok_or_else(|| LearnError::NoChampion { task: task.to_owned() })?,
        };
        let bundle = self.load(task, &model)?;
        let history: Vec<&Entry> = entries.iter().filter(|entry| entry.version == model.version).collect();
        let is_champion = champion.is_some_and(|champion| champion.version == model.version);
        Ok(json!({
            "task": task,
            "version": model.version,
            "sha256": model.sha256,
            "champion": is_champion,
            "card": bundle.card,
            "history": history,
        }))
    }

    /// Appends an entry, after `check` has seen all before it.
    fn note(
        &self,
        now: Micros,
        event: Event,
        model: &ModelRef,
        (metrics, reason): (&Value, &str),
        check: impl Fn(&[Entry]) -> Result<(), LearnError>,
    ) -> Result<(), LearnError> {
        Ledger::of(&self.task(&model.name)?).append(|entries| {
            check(entries)?;
            Ok(Entry {
                seq: entries.len() as u64 + 1,
                at: DateTime::from_timestamp_micros(now).unwrap_or_default(),
                event,
                version: model.version,
                sha256: model.sha256.clone(),
                metrics: metrics.clone(),
                reason: reason.to_owned(),
            })
        })?;
        fault("registry", "noted");
        Ok(())
    }

    fn models(&self, task: &str) -> Result<PathBuf, LearnError> {
        self.task(task).map(|path| path.join("models"))
    }

    fn bundle(&self, task: &str, version: u32) -> Result<PathBuf, LearnError> {
        self.models(task).map(|path| path.join(version.to_string()))
    }

    /// Folder of a task. Only names that cannot lead elsewhere become one.
    fn task(&self, task: &str) -> Result<PathBuf, LearnError> {
        if is_task_name(task) { Ok(self.root.join(task)) } else { Err(LearnError::TaskName) }
    }
}

/// The figures alone: the trials of a search, a page of them, are told by `models history`.
fn without_search(metrics: &Value) -> Value {
    let mut metrics = metrics.clone();
    if let Value::Object(figures) = &mut metrics {
        figures.remove("search");
    }
    metrics
}

fn champion_of(task: &str, entries: &[Entry]) -> Option<ModelRef> {
    let entry = entries.iter().rev().find(|entry| entry.event.crowns())?;
    Some(ModelRef { name: task.to_owned(), version: entry.version, sha256: entry.sha256.clone() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
