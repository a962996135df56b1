//! Names for the topics that each of several runs on one broker must have for itself.

const KEYS: [&str; 10] =
    ["events", "scores", "alerts", "alert_state", "models", "dead_letter", "redriven", "feedback", "links", "identity"];

/// The settings, as environment variables, that give the run `name` topics such as `name.alert-state`.
pub fn own_topics(name: &str) -> impl Iterator<Item = (String, String)> {
    KEYS.into_iter().map(move |key| {
        (format!("AUSCULT__TOPICS__{}", key.to_uppercase()), format!("{name}.{}", key.replace('_', "-")))
    })
}
