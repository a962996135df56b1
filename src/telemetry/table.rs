//! The one table of metrics, from which handles, `/metrics`, documents and dashboards are made.
//!
//! Names have base units (seconds, bytes) and counters end in `_total`. Labels come from closed
//! lists or from the site's settings, never from a message: a label is public and lives for ever.

/// What all names begin with, before an underscore.
pub const PREFIX: &str = "auscult";

/// What a metric is to Prometheus.
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets with these upper bounds, in seconds.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Spec {
    /// Name without [`PREFIX`].
    pub name: &'static str,
    /// What it is, in one sentence.
    pub help: &'static str,
    /// What it is to Prometheus.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
}

/// From arrival to alert: 1 ms to 60 s, dense where the targets lie (25 ms and 60 ms).
const LATENCY: Kind = Kind::Histogram(&[
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
]);

/// One step on one batch: 50 us to 10 s.
const STEP: Kind = Kind::Histogram(&[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
]);

/// From a prediction to its label: an hour to a year.
const LAG: Kind = Kind::Histogram(&[
    3_600.0,
    14_400.0,
    43_200.0,
    86_400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    1_209_600.0,
    2_592_000.0,
    7_776_000.0,
    31_536_000.0,
]);

const fn spec(name: &'static str, help: &'static str, kind: Kind, labels: &'static [&'static str]) -> Spec {
    Spec { name, help, kind, labels }
}

/// Every metric there is.
pub static TABLE: [Spec; 39] = [
    spec(
        "raw_messages_total",
        "Raw records consumed, each ending as events, a dead letter or a drop.",
        Kind::Counter,
        &["topic"],
    ),
    spec("accepted_total", "Raw records that were read and kept, as none, one or many events.", Kind::Counter, &[]),
    spec("events_total", "Clinical events written to the log of record.", Kind::Counter, &[]),
    spec("dead_letters_total", "Raw records that could not be read, by reason.", Kind::Counter, &["reason"]),
    spec("dropped_total", "Raw records dropped on purpose, by reason.", Kind::Counter, &["reason"]),
    spec(
        "unread_resources_total",
        "FHIR resources of a type and HL7 v2 segments of a name that are not read.",
        Kind::Counter,
        &["type"],
    ),
    spec("lenient_total", "What was read although its standard does not allow it, by kind.", Kind::Counter, &["kind"]),
    spec(
        "implausible_total",
        "Values outside their concept's plausible range: kept and flagged, and no feature sees them.",
        Kind::Counter,
        &["concept"],
    ),
    spec("unmapped_events_total", "Events whose code maps to no concept: kept.", Kind::Counter, &[]),
    spec("redelivered_events_total", "Events that the fold had already: same key, same content.", Kind::Counter, &[]),
    spec("corrected_events_total", "Events that replaced another: same key, other content.", Kind::Counter, &[]),
    spec("retracted_events_total", "Events that took another back.", Kind::Counter, &[]),
    spec("scores_total", "Predictions made.", Kind::Counter, &["task", "status"]),
    spec("alerts_total", "Alerts published.", Kind::Counter, &["task", "tier", "kind"]),
    spec("alert_latency_seconds", "From a record's arrival in Kafka to its alert's commit.", LATENCY, &[]),
    spec("stage_seconds", "Time of one stage on one batch.", STEP, &["stage"]),
    spec("transactions_total", "Kafka transactions ended, by role and outcome.", Kind::Counter, &["role", "outcome"]),
    spec("transaction_seconds", "From a transaction's beginning to its end.", STEP, &["role"]),
    spec(
        "transaction_wait_seconds",
        "How long a role that had the next batch ready waited for its last transaction.",
        STEP,
        &["role"],
    ),
    spec("source_wait_seconds", "How long a role waited for the batch that it then got.", STEP, &["role"]),
    spec(
        "consumer_lag",
        "Records not yet consumed, of partitions this process owns.",
        Kind::Gauge,
        &["topic", "partition"],
    ),
    spec(
        "archive_lag",
        "Messages not yet in the library, of partitions this process archives.",
        Kind::Gauge,
        &["topic", "partition"],
    ),
    spec(
        "catch_up_seconds",
        "Time until a role has read a partition to its end at its present pace; +Inf: it falls behind.",
        Kind::Gauge,
        &["role", "topic", "partition"],
    ),
    spec(
        "watermark_seconds",
        "Watermark of a raw partition, in seconds since 1970: when its newest event became known.",
        Kind::Gauge,
        &["topic", "partition"],
    ),
    spec("queue_bytes", "Bytes between the polling thread and its role.", Kind::Gauge, &["role"]),
    spec("state_subjects", "Subjects in memory.", Kind::Gauge, &[]),
    spec("state_resting_subjects", "Subjects of whom nothing is due, left to the library.", Kind::Gauge, &[]),
    spec("woken_subjects_total", "Subjects folded anew, for a row asked for more of them.", Kind::Counter, &[]),
    spec("state_bytes", "Estimated size of the subjects in memory.", Kind::Gauge, &[]),
    spec(
        "archive_position",
        "Last position of a partition of the events that the library holds.",
        Kind::Gauge,
        &["partition"],
    ),
    spec("archived_rows_total", "Rows committed to a table of the library.", Kind::Counter, &["table"]),
    spec("model_info", "1 for the model that scores a task now.", Kind::Gauge, &["task", "name", "version"]),
    spec(
        "model_auroc",
        "Area under the ROC curve of the model that scores a task, by what it was measured on.",
        Kind::Gauge,
        &["task", "by"],
    ),
    spec("swaps_total", "Models exchanged in the running process.", Kind::Counter, &["task"]),
    spec(
        "labels_total",
        "Published predictions whose label has settled, or that get none.",
        Kind::Counter,
        &["task", "outcome"],
    ),
    spec("label_lag_seconds", "From a prediction until its label had settled, by the events' clock.", LAG, &["task"]),
    spec("train_seconds", "Duration of a task's last training.", Kind::Gauge, &["task"]),
    spec(
        "identity_links_total",
        "Links between identifiers that records stated, by what was stated and what became of it.",
        Kind::Counter,
        &["kind", "outcome"],
    ),
    spec("build_info", "1, with the version of this process.", Kind::Gauge, &["version"]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `specs/interfaces.md` section 5: these names and labels are promised.
    const PROMISED: [(&str, &[&str]); 15] = [
        ("raw_messages_total", &["topic"]),
        ("events_total", &[]),
        ("dead_letters_total", &["reason"]),
        ("dropped_total", &["reason"]),
        ("scores_total", &["task", "status"]),
        ("alerts_total", &["task", "tier", "kind"]),
        ("alert_latency_seconds", &[]),
        ("stage_seconds", &["stage"]),
        ("consumer_lag", &["topic", "partition"]),
        ("state_subjects", &[]),
        ("state_bytes", &[]),
        ("archive_position", &["partition"]),
        ("model_info", &["task", "name", "version"]),
        ("train_seconds", &["task"]),
        ("model_auroc", &["task", "by"]),
    ];

    #[test]
    fn the_promised_metrics_are_there() {
        for (name, labels) in PROMISED {
            let spec = TABLE.iter().find(|spec| spec.name == name);
            assert_eq!(spec.map(|spec| spec.labels), Some(labels), "{name}");
        }
        let latency = TABLE.iter().find(|spec| spec.name == "alert_latency_seconds").unwrap();
        assert!(matches!(latency.kind, Kind::Histogram(bounds) if bounds[0] == 0.001 && bounds.last() == Some(&60.0)));
    }

    #[test]
    fn names_are_unique_and_in_base_units() {
        let names: BTreeSet<&str> = TABLE.iter().map(|spec| spec.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for spec in TABLE {
            let name = spec.name;
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), spec.kind == Kind::Counter, "{name}");
            assert_eq!(matches!(spec.kind, Kind::Histogram(_)), name.ends_with("_seconds") && spec.kind != Kind::Gauge);
            for unit in ["_ms", "_us", "_minutes", "_hours", "_kb", "_mb", "_percent"] {
                assert!(!name.ends_with(unit), "{name}");
            }
            assert!(spec.help.ends_with('.') && spec.help.len() > 10, "{name}");
        }
    }

    #[test]
    fn no_label_can_hold_a_patient() {
        let allowed = [
            "topic",
            "partition",
            "reason",
            "type",
            "concept",
            "task",
            "status",
            "tier",
            "kind",
            "stage",
            "role",
            "outcome",
            "table",
            "name",
            "version",
            "by",
        ];
        for spec in TABLE {
            assert!(spec.labels.iter().all(|label| allowed.contains(label)), "{}: think before adding here", spec.name);
        }
    }

    #[test]
    fn bounds_of_histograms_grow() {
        for spec in TABLE {
            if let Kind::Histogram(bounds) = spec.kind {
                assert!(bounds.is_sorted_by(|a, b| a < b) && bounds[0] > 0.0, "{}", spec.name);
            }
        }
    }
}
