//! The files of a site, read whole before anything is validated.
//!
//! Promises that every file that is missing or unreadable is found at once. What the files say is
//! for others: here they are text.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::Problem;

/// Longest file of a site that is read, in bytes.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Variable that names the folder of the site where the command line does not.
const VARIABLE: &str = "AUSCULT_CONFIG";

/// Folder that is tried, below the working directory, where nothing names one.
const USUAL: &str = "config/hospital";

const SETTINGS: &str = "auscult.toml";
const CONCEPTS: &str = "concepts.csv";
const UNITS: &str = "units.csv";
const NORMALIZE: &str = "normalize.sql";
const FEATURES: &str = "features.toml";
const TASKS: &str = "tasks";

/// The site that is compiled in: `config/hospital` as it was at the build.
const BUILT_IN: [(&str, &str); 7] = [
    (SETTINGS, include_str!("../../config/hospital/auscult.toml")),
    (CONCEPTS, include_str!("../../config/hospital/concepts.csv")),
    (UNITS, include_str!("../../config/hospital/units.csv")),
    (NORMALIZE, include_str!("../../config/hospital/normalize.sql")),
    (FEATURES, include_str!("../../config/hospital/features.toml")),
    ("tasks/deterioration.toml", include_str!("../../config/hospital/tasks/deterioration.toml")),
    ("tasks/deterioration.yaml", include_str!("../../config/hospital/tasks/deterioration.yaml")),
];

/// One file of a site.
#[derive(Clone, PartialEq, Eq)]
pub struct TextFile {
    /// Name relative to the site's folder, with `/`: `tasks/deterioration.toml`.
    pub name: String,
    /// What it holds, without a byte order mark.
    pub text: String,
}

impl fmt::Debug for TextFile {
    /// Never the text: `auscult.toml` may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextFile").field("name", &self.name).field("bytes", &self.text.len()).finish()
    }
}

/// All files of a site, as text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SiteFiles {
    /// The folder; `None` for the site that is compiled in.
    pub dir: Option<PathBuf>,
    /// `auscult.toml`.
    pub settings: TextFile,
    /// `concepts.csv`.
    pub concepts: TextFile,
    /// `units.csv`; the one compiled in where the folder has none.
    pub units: TextFile,
    /// `normalize.sql`.
    pub normalize_sql: TextFile,
    /// `features.toml`.
    pub features: TextFile,
    /// `tasks/*.toml`, in order of their names.
    pub tasks: Vec<TextFile>,
    /// `tasks/*.yaml` (ACES), in order of their names.
    pub aces: Vec<TextFile>,
}

impl SiteFiles {
    /// Finds the site and reads it: the folder `config`, else the folder `variable` (what
    /// `AUSCULT_CONFIG` holds; empty counts as not set), else `./config/hospital` if there is one,
    /// else the site compiled in.
    ///
    /// # Errors
    /// Every file that is missing or cannot be read, or the folder that is none.
    pub fn find(config: Option<&Path>, variable: Option<&OsStr>) -> Result<Self, Vec<Problem>> {
        Self::find_from(Path::new("."), config, variable)
    }

    /// The site compiled into the binary.
    pub fn built_in() -> Self {
        let file = |name: &str| {
            let text = BUILT_IN.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| *text);
            TextFile { name: name.to_owned(), text: text.to_owned() }
        };
        let ending = |ending: &str| {
            let tasks = BUILT_IN.iter().filter(|(name, _)| name.starts_with(TASKS) && name.ends_with(ending));
            tasks.map(|(name, _)| file(name)).collect()
        };
        SiteFiles {
            dir: None,
            settings: file(SETTINGS),
            concepts: file(CONCEPTS),
            units: file(UNITS),
            normalize_sql: file(NORMALIZE),
            features: file(FEATURES),
            tasks: ending(".toml"),
            aces: ending(".yaml"),
        }
    }

    /// [`Self::find`] with `base` as the working directory.
    fn find_from(base: &Path, config: Option<&Path>, variable: Option<&OsStr>) -> Result<Self, Vec<Problem>> {
        if let Some(dir) = config {
            return Self::read(dir, "--config");
        }
        if let Some(dir) = variable.filter(|dir| !dir.is_empty()) {
            return Self::read(Path::new(dir), VARIABLE);
        }
        let usual = base.join(USUAL);
        if usual.is_dir() { Self::read(&usual, USUAL) } else { Ok(Self::built_in()) }
    }

    /// Reads the folder `dir`, which `chosen_by` named.
    fn read(dir: &Path, chosen_by: &str) -> Result<Self, Vec<Problem>> {
        if !dir.is_dir() {
            let what = "is not a folder that can be read";
            return Err(vec![Problem::new(
                &dir.display().to_string(),
                chosen_by,
                what,
                "name the folder of a site, one that holds auscult.toml",
            )]);
        }
        let mut problems = Vec::new();
        let [settings, concepts, normalize_sql, features] =
            [SETTINGS, CONCEPTS, NORMALIZE, FEATURES].map(|name| keep(read_text(dir, name), &mut problems));
        let units = match dir.join(UNITS).exists() {
            true => keep(read_text(dir, UNITS), &mut problems),
            false => Some(Self::built_in().units),
        };
        let (mut tasks, mut aces) = (Vec::new(), Vec::new());
        for name in task_names(dir, &mut problems) {
            let kind = if name.ends_with(".toml") { &mut tasks } else { &mut aces };
            kind.extend(keep(read_text(dir, &name), &mut problems));
        }
        match (settings, concepts, units, normalize_sql, features) {
            (Some(settings), Some(concepts), Some(units), Some(normalize_sql), Some(features))
                if problems.is_empty() =>
            {
                let dir = Some(dir.to_owned());
                Ok(SiteFiles { dir, settings, concepts, units, normalize_sql, features, tasks, aces })
            }
            _ => Err(problems),
        }
    }
}

fn keep<T>(result: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

/// Names of the task and label files, sorted. A site without tasks only collects.
fn task_names(dir: &Path, problems: &mut Vec<Problem>) -> Vec<String> {
    let entries = match fs::read_dir(dir.join(TASKS)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.push(unreadable(TASKS, &error));
            return Vec::new();
        }
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => {
                problems.push(unreadable(TASKS, &error));
                continue;
            }
        };
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let name = format!("{TASKS}/{name}");
        match path.extension().and_then(|extension| extension.to_str()) {
            // Folders too end here, so that reading them says why they are none of ours.
            Some("toml" | "yaml") => names.push(name),
            Some("yml") => {
                problems.push(Problem::new(&name, "name", "would be passed over", "let its name end in .yaml"));
            }
            _ => {}
        }
    }
    names.sort_unstable();
    names
}

fn read_text(dir: &Path, name: &str) -> Result<TextFile, Problem> {
    let mut bytes = Vec::new();
    let read = fs::File::open(dir.join(name)).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
    let length = read.map_err(|error| unreadable(name, &error))?;
    if length as u64 > LONGEST {
        return Err(Problem::new(name, "size", "is longer than 64 MiB", "split it or leave out what is not needed"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Problem::new(name, format!("line {line}"), "is not UTF-8", "save the file as UTF-8")
    })?;
    // Spreadsheets put a byte order mark before a table; it would become part of the first column's name.
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok(TextFile { name: name.to_owned(), text })
}

fn unreadable(name: &str, error: &io::Error) -> Problem {
    if error.kind() == io::ErrorKind::NotFound {
        Problem::new(name, "file", "is missing", "copy it from config/hospital and edit it")
    } else {
        Problem::new(name, "file", format!("cannot be read ({})", error.kind()), "let the daemon's user read it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(dir: &Path) {
        fs::create_dir_all(dir.join(TASKS)).unwrap();
        for (name, text) in BUILT_IN {
            fs::write(dir.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_built_in_site_is_whole() {
        let site = SiteFiles::built_in();
        for file in [&site.settings, &site.concepts, &site.units, &site.normalize_sql, &site.features] {
            assert!(!file.text.trim().is_empty(), "{}", file.name);
        }
        assert_eq!((site.tasks.len(), site.aces.len(), site.dir), (1, 1, None));
        assert_eq!(BUILT_IN.len(), 7, "every compiled file is in its place");
    }

    #[test]
    fn the_first_that_names_a_folder_wins() {
        let base = tempfile::tempdir().unwrap();
        let (named, asked) = (base.path().join("named"), base.path().join("asked"));
        let found = |config: Option<&Path>, variable: &Path| {
            SiteFiles::find_from(base.path(), config, Some(variable.as_os_str())).unwrap().dir
        };
        assert_eq!(found(None, Path::new("")), None, "nothing there: the one compiled in");
        site(&base.path().join(USUAL));
        site(&named);
        site(&asked);
        assert_eq!(found(None, Path::new("")), Some(base.path().join(USUAL)));
        assert_eq!(found(None, &named), Some(named.clone()));
        assert_eq!(found(Some(&asked), &named), Some(asked.clone()));
    }

    #[test]
    fn a_folder_reads_as_what_was_compiled_from_it() {
        let base = tempfile::tempdir().unwrap();
        site(base.path());
        fs::write(base.path().join("tasks/notes.txt"), "not ours").unwrap();
        let read = SiteFiles::find(Some(base.path()), None).unwrap();
        assert_eq!(SiteFiles { dir: None, ..read }, SiteFiles::built_in());
    }

    #[test]
    fn a_folder_without_units_has_those_compiled_in() {
        let base = tempfile::tempdir().unwrap();
        site(base.path());
        fs::remove_file(base.path().join(UNITS)).unwrap();
        assert_eq!(SiteFiles::find(Some(base.path()), None).unwrap().units, SiteFiles::built_in().units);
        fs::write(base.path().join(UNITS), "spelling,ucum\n").unwrap();
        assert_eq!(SiteFiles::find(Some(base.path()), None).unwrap().units.text, "spelling,ucum\n");
    }

    #[test]
    fn every_missing_or_unreadable_file_is_named_at_once() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("tasks/folder.toml")).unwrap();
        fs::write(base.path().join(SETTINGS), b"a = 1\nb = \"\xff\"").unwrap();
        fs::write(base.path().join("tasks/labels.yml"), "").unwrap();
        let problems = SiteFiles::find(Some(base.path()), None).unwrap_err();
        let mut named: Vec<(&str, &str)> = problems.iter().map(|p| (p.file.as_str(), p.key.as_str())).collect();
        named.sort_unstable();
        let expected = [
            (SETTINGS, "line 2"),
            (CONCEPTS, "file"),
            (FEATURES, "file"),
            (NORMALIZE, "file"),
            ("tasks/folder.toml", "file"),
            ("tasks/labels.yml", "name"),
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn no_folder_is_a_problem_that_says_who_named_it() {
        let problems = SiteFiles::find(None, Some(OsStr::new("/no/such/site"))).unwrap_err();
        assert_eq!((problems[0].file.as_str(), problems[0].key.as_str()), ("/no/such/site", VARIABLE));
    }

    #[test]
    fn a_byte_order_mark_and_the_text_stay_out_of_sight() {
        let base = tempfile::tempdir().unwrap();
        site(base.path());
        fs::write(base.path().join(CONCEPTS), "\u{feff}system,code\nhidden").unwrap();
        let read = SiteFiles::find(Some(base.path()), None).unwrap();
        assert_eq!(read.concepts.text, "system,code\nhidden");
        assert!(!format!("{read:?}").contains("hidden"));
    }
}
