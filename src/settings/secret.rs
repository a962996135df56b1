//! Values that must not be printed, and the one secret that every process of a site shares.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rand::TryRngCore as _;
use rand::rngs::OsRng;

use super::{Identity, Problem};

/// Fewest bytes of the secret of the pseudonyms.
pub(super) const SECRET_BYTES: usize = 16;

/// Random bytes of a secret made here; its file holds twice as many hexadecimal digits.
const MADE_BYTES: usize = 32;

/// Longest file that is read as a secret: a longer one is surely another file.
const LONGEST_FILE: u64 = 64 * 1024;

const KEY: &str = "identity.key";
const GIVE_ONE: &str = "give the key yourself: AUSCULT__IDENTITY__KEY, or a file that identity.key names";

/// Text that neither `Debug` nor `Display` prints.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself. Never put it into a log line, an error or a label.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Identity {
    /// The secret of the pseudonyms, and a warning where it lies beside the data.
    ///
    /// [`Identity::Made`] makes its file at the first call: 32 random bytes in hexadecimal, mode
    /// 0600. Processes that start at once agree on one, because the file appears whole (written
    /// beside, then linked to its name) and whoever comes second reads the first one's.
    ///
    /// # Errors
    /// If the file can be neither made nor read, or holds fewer than 16 bytes.
    pub fn secret(&self) -> Result<(Secret, Option<String>), Problem> {
        let path = match self {
            Identity::Given(secret) => return Ok((secret.clone(), None)),
            Identity::Made(path) => path,
        };
        let made = make_once(path).map_err(|error| {
            Problem::new(&path.display().to_string(), KEY, format!("cannot be made ({})", error.kind()), GIVE_ONE)
        })?;
        let secret = read_secret(path).map_err(|what| {
            // Replacing it would give every patient another pseudonym, so a person decides.
            Problem::new(&path.display().to_string(), KEY, what, "put the key that made the library back there")
        })?;
        let has_been = if made { "has been made" } else { "was made" };
        let warning = format!(
            "the key of the pseudonyms {has_been} in {}, beside the data it protects: whoever copies both can name the \
             patients. move it to a store of secrets and let identity.key or AUSCULT__IDENTITY__KEY give it; without \
             it the same patient gets another pseudonym",
            path.display()
        );
        Ok((secret, Some(warning)))
    }
}

/// Reads the secret in the file at `path`, without the white space around it; says what is wrong.
pub(super) fn read_secret(path: &Path) -> Result<Secret, String> {
    let unreadable = |error: io::Error| format!("names a file that cannot be read ({})", error.kind());
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    let read = file.take(LONGEST_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
    if read as u64 > LONGEST_FILE {
        return Err("names a file of more than 64 KiB, which is no key".to_owned());
    }
    let text = text.trim();
    if text.len() < SECRET_BYTES {
        return Err(format!("names a file with a key of fewer than {SECRET_BYTES} bytes"));
    }
    Ok(Secret::new(text))
}

/// Makes the key at `path` unless there is one; true if it was made here.
fn make_once(path: &Path) -> io::Result<bool> {
    if path.try_exists()? {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let unique = hexadecimal::<8>()?;
    let draft = folder.join(format!(".identity.key.{}.{unique}", std::process::id()));
    let linked = write_new(&draft, &hexadecimal::<MADE_BYTES>()?).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    match linked {
        // The name must outlive a power cut as surely as the events that will be hashed with the key.
        Ok(()) => removed.and_then(|()| fs::File::open(folder)?.sync_all()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => removed.map(|()| false),
        Err(error) => Err(error),
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// `N` bytes from the operating system's generator, as hexadecimal digits.
fn hexadecimal<const N: usize>() -> io::Result<String> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("correct horse battery");
        assert!(!format!("{secret} {secret:?} {:?}", Identity::Given(secret.clone())).contains("horse"));
        assert_eq!(secret.expose(), "correct horse battery");
    }

    #[test]
    fn a_given_secret_needs_no_warning() {
        let (secret, warning) = Identity::Given(Secret::new("0123456789abcdef")).secret().unwrap();
        assert_eq!((secret.expose(), warning), ("0123456789abcdef", None));
    }

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("identity.key");
        let identity = Identity::Made(path.clone());
        let (first, warning) = identity.secret().unwrap();
        assert!(warning.unwrap().contains(&path.display().to_string()));
        assert_eq!(first.expose().len(), 2 * MADE_BYTES);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (second, warning) = identity.secret().unwrap();
        assert_eq!(first.expose(), second.expose());
        assert!(warning.is_some(), "the warning stays as long as the key lies there");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn processes_that_start_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::Made(folder.path().join("identity.key"));
        let start = Barrier::new(8);
        let secrets: Vec<String> = std::thread::scope(|scope| {
            let run = || {
                start.wait();
                identity.secret().unwrap().0.expose().to_owned()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_spoilt_key_is_a_problem_and_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        fs::write(&path, "short\n").unwrap();
        let problem = Identity::Made(path.clone()).secret().unwrap_err();
        assert!(problem.what.contains("fewer than 16 bytes"), "{problem}");
        assert!(!problem.to_string().contains("short\n"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "short\n");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let problem = Identity::Made(file.join("identity.key")).secret().unwrap_err();
        assert!(problem.remedy.contains("AUSCULT__IDENTITY__KEY"), "{problem}");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        assert!(read_secret(&path).unwrap_err().contains("cannot be read"));
        fs::write(&path, "x".repeat(70_000)).unwrap();
        assert!(read_secret(&path).unwrap_err().contains("64 KiB"));
        fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
        assert!(read_secret(&path).unwrap_err().contains("cannot be read"));
        fs::write(&path, " 0123456789abcdef\n\n").unwrap();
        assert_eq!(read_secret(&path).unwrap().expose(), "0123456789abcdef");
    }
}
