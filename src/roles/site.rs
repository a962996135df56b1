//! A site whole: settings, concepts, rules, features and tasks, validated together.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use crate::decode::Rules;
use crate::events::Pseudonyms;
use crate::features::{FeatureSpec, Fold};
use crate::learn::{Source, Spill, Task};
use crate::library::Library;
use crate::normalize::{Concepts, Normalizer, Spellings};
use crate::settings::{Problem, Settings, SiteFiles, TextFile};

/// Everything that a site's folder says, ready for use.
#[derive(Debug)]
pub struct Site {
    /// `auscult.toml`.
    pub settings: Settings,
    /// `concepts.csv`.
    pub concepts: Concepts,
    /// `units.csv`.
    pub spellings: Spellings,
    /// `normalize.sql`.
    pub normalize_sql: TextFile,
    /// `features.toml`.
    pub features: Arc<FeatureSpec>,
    /// `tasks/*.toml`, in the order of their names.
    pub tasks: Vec<Task>,
}

impl Site {
    /// Reads and validates the site at `config` (see [`SiteFiles::find`]), under the environment.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn load(config: Option<&Path>) -> Result<Site, Vec<Problem>> {
        let files = SiteFiles::find(config, std::env::var_os("AUSCULT_CONFIG").as_deref())?;
        Site::parse(&files, std::env::vars_os())
    }

    /// A state before anything is known.
    pub fn fold(&self) -> Fold {
        Fold::new(Arc::clone(&self.features), self.tasks.iter().map(|task| task.trigger.clone()).collect())
    }

    /// Validates the files of a site under the environment `env`.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn parse<T: Into<OsString>>(
        files: &SiteFiles,
        env: impl Iterator<Item = (T, T)>,
    ) -> Result<Site, Vec<Problem>> {
        let mut problems = Vec::new();
        let settings = keep(Settings::load(files, env), &mut problems);
        let concepts = keep(Concepts::parse(&files.concepts.name, &files.concepts.text), &mut problems);
        let spellings = keep(Spellings::parse(&files.units.name, &files.units.text), &mut problems);
        if let (Some(concepts), Some(spellings)) = (&concepts, &spellings) {
            // The plan is tried under a throw-away key: checking a site must not make its secret.
            let trial = Pseudonyms::new(b"only to try the plan").map_err(|_| Vec::new());
            let limit = settings.as_ref().map_or(usize::MAX, |settings| settings.limits.record_bytes);
            let sql = &files.normalize_sql;
            let plan = trial.and_then(|key| Normalizer::new(concepts, spellings, &sql.name, &sql.text, key, limit));
            keep(plan, &mut problems);
        }
        // Without concepts every feature would seem unknown; the concepts' own problem says enough.
        let features = concepts.as_ref().and_then(|concepts| {
            keep(FeatureSpec::parse(&files.features.name, &files.features.text, &concepts.units()), &mut problems)
        });
        let mut tasks = Vec::new();
        for file in &files.tasks {
            let found = keep(Task::parse(file, &files.aces), &mut problems).into_iter().flatten();
            tasks.extend(found.map(|mut task| {
                let file = &task.train.params.onnx.file;
                task.train.onnx =
                    files.dir.as_ref().filter(|_| !file.is_empty()).map(|dir| dir.join("tasks").join(file));
                task
            }));
        }
        for task in &tasks {
            if let Some(features) = &features
                && let Some(unknown) = task.trigger.unknown_feature(features)
            {
                let (file, what) = (format!("tasks/{}.toml", task.name), format!("names '{unknown}', no feature"));
                let remedy = "add it to features.toml, or correct it; names with dots go in double quotes";
                problems.push(Problem::new(&file, "trigger.cohort", what, remedy));
            }
        }
        for task in &tasks {
            let Some(features) = &features else { break };
            for concept in task.policy.actionable.iter().filter(|concept| features.levels(concept).is_none()) {
                let (file, what) = (format!("tasks/{}.toml", task.name), format!("names '{concept}'"));
                let what = format!("{what}, of which no feature holds a value");
                let remedy = "name concepts of features.toml with last, min, max, mean or median";
                problems.push(Problem::new(&file, "alert.actionable", what, remedy));
            }
        }
        for (i, task) in tasks.iter().enumerate() {
            if tasks[..i].iter().any(|other: &Task| other.name == task.name) {
                problems.push(Problem::new("tasks", task.name.clone(), "two tasks have this name", "rename one"));
            }
        }
        match (settings, concepts, spellings, features) {
            (Some(settings), Some(concepts), Some(spellings), Some(features)) if problems.is_empty() => Ok(Site {
                settings,
                concepts,
                spellings,
                normalize_sql: files.normalize_sql.clone(),
                features: Arc::new(features),
                tasks,
            }),
            _ => Err(problems),
        }
    }

    /// What models of this site are learned from.
    pub fn source<'a>(&self, library: &'a Library) -> Source<'a> {
        Source { library, features: Arc::clone(&self.features), spill: Spill::of(&self.settings.limits) }
    }

    /// The pseudonyms under the site's secret, which is made if there is none; then a warning
    /// says where.
    ///
    /// # Errors
    /// If the secret cannot be read or made, or is too short.
    pub fn pseudonyms(&self) -> Result<Pseudonyms, Problem> {
        let (secret, warning) = self.settings.identity.secret()?;
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        Pseudonyms::new(secret.expose().as_bytes())
            .map_err(|error| Problem::new("auscult.toml", "identity.key", error.to_string(), "make a longer key"))
    }

    /// The normalizer of this site.
    ///
    /// # Errors
    /// The problems of `normalize.sql`.
    pub fn normalizer(&self, pseudonyms: Pseudonyms) -> Result<Normalizer, Vec<Problem>> {
        let sql = &self.normalize_sql;
        let limit = self.settings.limits.record_bytes;
        let normalizer = Normalizer::new(&self.concepts, &self.spellings, &sql.name, &sql.text, pseudonyms, limit)?;
        Ok(normalizer.with_rules(Rules { zone: self.settings.time.zone }))
    }

    /// The task of that name.
    ///
    /// # Errors
    /// A problem that lists the tasks there are.
    pub fn task(&self, name: &str) -> Result<&Task, Problem> {
        self.tasks.iter().find(|task| task.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.tasks.iter().map(|task| task.name.as_str()).collect();
            Problem::new(
                "tasks",
                "--task",
                "this site has no such task",
                format!("choose one of: {}", names.join(", ")),
            )
        })
    }
}

fn keep<T>(result: Result<T, Vec<Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|found| problems.extend(found)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(files: &SiteFiles) -> Result<Site, Vec<Problem>> {
        Site::parse(files, std::iter::empty::<(String, String)>())
    }

    #[test]
    fn the_sites_of_this_project_have_no_problem() {
        assert!(parse(&SiteFiles::built_in()).is_ok());
        for name in ["hospital", "physionet2012"] {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
            let problems = parse(&SiteFiles::find(Some(&dir), None).unwrap()).err();
            assert!(problems.is_none(), "{name}: {problems:?}");
        }
    }

    #[test]
    fn problems_of_several_files_are_found_at_once() {
        let mut files = SiteFiles::built_in();
        files.units.text.push_str("MCG,microgramme,part\n");
        files.concepts.text.push_str("LOINC,1-8,Rate,furlong,,,,,\n");
        let problems = parse(&files).unwrap_err();
        let found: Vec<(&str, &str)> = problems
            .iter()
            .map(|problem| (problem.file.as_str(), problem.key.rsplit(' ').next().unwrap_or_default()))
            .collect();
        assert_eq!(found, [("concepts.csv", "concept"), ("concepts.csv", "unit"), ("units.csv", "ucum")]);
        assert!(problems.iter().all(|problem| !problem.remedy.is_empty()));
    }
}
