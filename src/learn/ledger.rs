//! The ledger of a task's models: a folder of numbered entries that is only ever added to.
//!
//! An entry gets its number by creating the file of that name, whole and synced, so that
//! two processes never share one and no reader ever sees half of one.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::LearnError;

/// How often a number is tried that others keep taking first.
const TRIES: u32 = 1_000;
/// Longest entry that is written or read, in bytes.
const LONGEST: u64 = 1 << 20;

/// What happened to a model.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was put into the registry.
    Registered,
    /// It became the champion.
    Promoted,
    /// The gate kept it from becoming the champion.
    Rejected,
    /// It became the champion again.
    RolledBack,
}

/// One entry of a ledger.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Place in the ledger, from 1 up.
    pub seq: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// What happened.
    pub event: Event,
    /// To which version.
    pub version: u32,
    /// SHA-256 of its bundle.
    pub sha256: String,
    /// Its figures as they were then; null where none were made.
    pub metrics: Value,
    /// Why.
    pub reason: String,
}

impl Event {
    /// Whether the model is the champion from here on.
    pub fn crowns(self) -> bool {
        matches!(self, Event::Promoted | Event::RolledBack)
    }
}

/// The ledger in a task's folder.
pub(super) struct Ledger {
    folder: PathBuf,
}

impl Ledger {
    /// The ledger of the task in `folder`; nothing is read yet.
    pub(super) fn of(folder: &Path) -> Self {
        Ledger { folder: folder.join("ledger") }
    }

    /// Every entry, oldest first.
    ///
    /// # Errors
    /// If one cannot be read or is missing between others.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, LearnError> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            while let Some(entry) = self.entry(entries.len() as u64 + 1)? {
                entries.push(entry);
            }
            let last = Some(entries.len() as u64);
            let number = |name: &String| name.strip_suffix(".json").and_then(|seq| seq.parse().ok());
            if names_in(&self.folder)?.iter().map(number).max().flatten() <= last {
                return Ok(entries);
            }
            // Either somebody wrote since, or an entry is gone: the next one tells.
            let next = entries.len() as u64 + 1;
            let missing = || LearnError::Ledger { path: self.path(next), what: "is missing between others".to_owned() };
            entries.push(self.entry(next)?.ok_or_else(missing)?);
        }
    }

    /// Adds the entry that `make` makes of those before it; again if another one was faster.
    ///
    /// # Errors
    /// Those of `make`; if the ledger cannot be read or written.
    pub(super) fn append(&self, make: impl Fn(&[Entry]) -> Result<Entry, LearnError>) -> Result<(), LearnError> {
        fs::create_dir_all(&self.folder).map_err(LearnError::io(&self.folder))?;
        for _ in 0..TRIES {
            let entry = make(&self.entries()?)?;
            let path = self.path(entry.seq);
            let text = serde_json::to_vec_pretty(&entry)?;
            if text.len() as u64 > LONGEST {
                // It could not be read back, nor could any entry after it.
                let what = format!("would get an entry of more than {LONGEST} bytes");
                return Err(LearnError::Ledger { path, what });
            }
            match create_whole(&self.folder, &path, &text) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(LearnError::io(&path)(error)),
            }
        }
        let what = format!("had its next number taken by others {TRIES} times");
        Err(LearnError::Ledger { path: self.folder.clone(), what })
    }

    /// The entry of that number, `None` if there is none.
    fn entry(&self, seq: u64) -> Result<Option<Entry>, LearnError> {
        let path = self.path(seq);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LearnError::io(&path)(error)),
        };
        let mut text = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut text).map_err(LearnError::io(&path))?;
        let damaged = |what: String| LearnError::Ledger { path: path.clone(), what };
        if text.len() as u64 > LONGEST {
            return Err(damaged(format!("is longer than {LONGEST} bytes")));
        }
        let entry: Entry = serde_json::from_slice(&text).map_err(|error| damaged(format!("is no entry: {error}")))?;
        if entry.seq == seq { Ok(Some(entry)) } else { Err(damaged(format!("says that it is number {}", entry.seq))) }
    }

    fn path(&self, seq: u64) -> PathBuf {
        self.folder.join(format!("{seq:08}.json"))
    }
}

/// Names in a folder; none if there is no folder.
pub(super) fn names_in(folder: &Path) -> Result<Vec<String>, LearnError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LearnError::io(folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(LearnError::io(folder))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// Makes a file that appears with all its bytes, on disk, or not at all; an error of kind
/// `AlreadyExists` if there is one of that name.
fn create_whole(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unique: u64 = rand::random();
    let draft = folder.join(format!(".{:08x}-{unique:016x}.draft", std::process::id()));
    let written = File::create_new(&draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    // A hard link, unlike a rename, never replaces what is there.
    let linked = written.and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    linked?;
    File::open(folder)?.sync_all()
}
