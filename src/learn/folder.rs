//! A folder for temporary files.
//!
//! Promises that it is for this user only and goes with whoever holds it. A process that was killed cannot remove
//! its own: the next one that makes a folder in the same place does.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::LearnError;

/// How the names begin.
const NAME: &str = "auscult-rows-";
/// How the name of a folder begins that is not locked yet.
const DRAFT: &str = "auscult-new-";
/// The file that is locked as long as the folder is needed: the system lets go of it when the process dies.
const LOCK: &str = "lock";

/// A folder that is removed with all that is in it when it is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes a folder in `parent` and removes those that killed processes left there.
    ///
    /// # Errors
    /// If there can be none.
    pub(super) fn make(parent: &Path) -> Result<Folder, LearnError> {
        remove_left_overs(parent);
        let name = format!("{:016x}", rand::random::<u64>());
        let (draft, path) = (parent.join(format!("{DRAFT}{name}")), parent.join(format!("{NAME}{name}")));
        // It holds what is known of patients.
        DirBuilder::new().mode(0o700).create(&draft).map_err(LearnError::io(&draft))?;
        match lock_and_rename(&draft, &path) {
            Ok(lock) => Ok(Folder { path, _lock: lock }),
            Err(error) => {
                let _ = fs::remove_dir_all(&draft);
                Err(LearnError::io(&path)(error))
            }
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What could not be removed, the next process removes, or whoever cleans the system's temporary files.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Under its name a folder is always locked, so that nobody takes one that is being made for a left-over.
fn lock_and_rename(draft: &Path, path: &Path) -> io::Result<File> {
    let lock = File::create_new(draft.join(LOCK))?;
    lock.lock()?;
    fs::rename(draft, path)?;
    Ok(lock)
}

/// Removes the folders of processes that are no more, and helps with those that are being removed.
fn remove_left_overs(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(NAME))
            && entry.file_type().is_ok_and(|of| of.is_dir());
        let is_needed = || match File::open(entry.path().join(LOCK)) {
            Ok(lock) => lock.try_lock().is_err(),
            // That of another user cannot be opened.
            Err(error) => error.kind() != ErrorKind::NotFound,
        };
        if is_ours && !is_needed() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_holder_and_one_that_was_left_with_the_next() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join("auscult-rows-0123");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        fs::write(left.join("0"), "rows").unwrap();
        let half_removed = parent.path().join("auscult-rows-4567");
        fs::create_dir(&half_removed).unwrap();
        let foreign = parent.path().join("rows");
        fs::create_dir(&foreign).unwrap();

        let one = Folder::make(parent.path()).unwrap();
        assert!(!left.exists() && !half_removed.exists() && foreign.exists());
        fs::write(one.path().join("0"), "rows").unwrap();
        let other = Folder::make(parent.path()).unwrap();
        assert!(one.path().join("0").exists(), "whose holder lives is no left-over");
        assert_ne!(one.path(), other.path());
        drop((one, other));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        assert!(matches!(Folder::make(&parent.path().join("nowhere")), Err(LearnError::Io { .. })));
    }
}
