//! The models in use, one a task, swapped at a batch's border.
//!
//! What is in use at start comes from the registry; after that `auscult.models` tells of
//! each promotion. A bundle that does not load, or was fitted on other features, never
//! replaces one that works.

use std::sync::Arc;

use super::{Context, RoleError};
use crate::kafka::Follower;
use crate::learn::{Announcement, ModelRef, Registry};
use crate::models::Bundle;
use crate::telemetry::fault;

/// A model in use.
#[derive(Clone, Debug)]
pub(super) struct Champion {
    /// Name, version and hash.
    pub(super) model: ModelRef,
    /// The bundle.
    pub(super) bundle: Arc<Bundle>,
}

/// The champion of each task, in the order of the site's tasks.
#[derive(Debug)]
pub(super) struct Champions<'c> {
    context: &'c Context,
    registry: Registry,
    announcements: Follower,
    current: Vec<Option<Champion>>,
}

impl<'c> Champions<'c> {
    /// Loads the champions of the registry and follows the announcements.
    pub(super) fn open(context: &'c Context) -> Result<Self, RoleError> {
        let settings = &context.site.settings;
        let mut champions = Champions {
            context,
            registry: Registry::open(&settings.registry)?,
            announcements: Follower::open(&settings.kafka, &settings.topics.models, 1)?,
            current: vec![None; context.site.tasks.len()],
        };
        for task in 0..champions.current.len() {
            champions.refresh(task);
        }
        Ok(champions)
    }

    /// The champion of the task with that index.
    pub(super) fn of(&self, task: usize) -> Option<&Champion> {
        self.current.get(task).and_then(Option::as_ref)
    }

    /// Takes over what was announced since. To be called between batches only.
    pub(super) fn follow(&mut self) {
        for value in self.announcements.drain() {
            let Ok(announcement) = serde_json::from_slice::<Announcement>(&value) else {
                tracing::warn!("an announcement on the models topic cannot be read and is ignored");
                continue;
            };
            let known = |champion: &Champion| champion.model.version == announcement.version;
            if let Some(task) = self.context.site.tasks.iter().position(|task| task.name == announcement.task)
                && !self.of(task).is_some_and(known)
            {
                self.refresh(task);
            }
        }
    }

    /// Loads the registry's champion of a task unless it is in use already.
    fn refresh(&mut self, task: usize) {
        let name = &self.context.site.tasks[task].name;
        let metrics = &self.context.metrics;
        let model = match self.registry.champion(name) {
            Ok(Some(model)) if self.of(task).is_some_and(|champion| champion.model == model) => return,
            Ok(Some(model)) => model,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(task = name, %error, "the registry cannot be read; the model in use stays");
                return;
            }
        };
        match self.registry.load(name, &model) {
            Ok(bundle) if bundle.card.spec_hash == self.context.site.features.hash() => {
                tracing::info!(task = name, version = model.version, "a model is in use");
                metrics.scores_with(name, &model.name, &model.version.to_string());
                metrics.swaps.with_label_values(&[name]).inc();
                self.current[task] = Some(Champion { model, bundle: Arc::new(bundle) });
                fault("score", "swapped");
            }
            Ok(_) => tracing::error!(
                task = name,
                version = model.version,
                "the champion was fitted on other features than features.toml describes; train again"
            ),
            Err(error) => tracing::error!(task = name, %error, "a model cannot be loaded; the one in use stays"),
        }
    }
}
