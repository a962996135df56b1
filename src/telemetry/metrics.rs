//! Handles of the metrics, made from the table.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Error, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::table::{Kind, PREFIX, Spec, TABLE};

/// All metrics of a process. Clones share the same numbers.
///
/// Increment per batch rather than per row: finding a label's child takes a lock and a hash.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    scoring: Arc<Mutex<BTreeMap<String, (String, String)>>>,
    /// `raw_messages_total{topic}`
    pub raw_messages: IntCounterVec,
    /// `accepted_total`; with the dead letters and the drops it adds up to the raw messages (invariant 1).
    pub accepted: IntCounter,
    /// `events_total`
    pub events: IntCounter,
    /// `dead_letters_total{reason}`
    pub dead_letters: IntCounterVec,
    /// `dropped_total{reason}`
    pub dropped: IntCounterVec,
    /// `unread_resources_total{type}`; the type must be one of FHIR's, a segment's name, or "other".
    pub unread_resources: IntCounterVec,
    /// `lenient_total{kind}`; the kind is of the closed list of the decoders.
    pub lenient: IntCounterVec,
    /// `implausible_total{concept}`
    pub implausible: IntCounterVec,
    /// `unmapped_events_total`
    pub unmapped_events: IntCounter,
    /// `redelivered_events_total`
    pub redelivered_events: IntCounter,
    /// `corrected_events_total`
    pub corrected_events: IntCounter,
    /// `retracted_events_total`
    pub retracted_events: IntCounter,
    /// `scores_total{task,status}`
    pub scores: IntCounterVec,
    /// `alerts_total{task,tier,kind}`
    pub alerts: IntCounterVec,
    /// `alert_latency_seconds`
    pub alert_latency: Histogram,
    /// `stage_seconds{stage}`
    pub stage_seconds: HistogramVec,
    /// `transactions_total{role,outcome}`
    pub transactions: IntCounterVec,
    /// `transaction_seconds{role}`
    pub transaction_seconds: HistogramVec,
    /// `transaction_wait_seconds{role}`
    pub transaction_wait_seconds: HistogramVec,
    /// `source_wait_seconds{role}`
    pub source_wait_seconds: HistogramVec,
    /// `consumer_lag{topic,partition}`; see [`Metrics::forget_partition`].
    pub consumer_lag: IntGaugeVec,
    /// `archive_lag{topic,partition}`; see [`Metrics::forget_partition`].
    pub archive_lag: IntGaugeVec,
    /// `catch_up_seconds{role,topic,partition}`; see [`Metrics::forget_partition`].
    pub catch_up_seconds: GaugeVec,
    /// `watermark_seconds{topic,partition}`; see [`Metrics::forget_partition`].
    pub watermark_seconds: GaugeVec,
    /// `queue_bytes{role}`
    pub queue_bytes: IntGaugeVec,
    /// `state_subjects`
    pub state_subjects: IntGauge,
    /// `state_resting_subjects`
    pub state_resting_subjects: IntGauge,
    /// `woken_subjects_total`
    pub woken_subjects: IntCounter,
    /// `state_bytes`
    pub state_bytes: IntGauge,
    /// `archive_position{partition}`
    pub archive_position: IntGaugeVec,
    /// `archived_rows_total{table}`
    pub archived_rows: IntCounterVec,
    /// `model_info{task,name,version}`; set it through [`Metrics::scores_with`].
    pub model_info: IntGaugeVec,
    /// `model_auroc{task,by}`
    pub model_auroc: GaugeVec,
    /// `swaps_total{task}`
    pub swaps: IntCounterVec,
    /// `labels_total{task,outcome}`
    pub labels: IntCounterVec,
    /// `label_lag_seconds{task}`
    pub label_lag: HistogramVec,
    /// `train_seconds{task}`
    pub train_seconds: GaugeVec,
    /// `identity_links_total{kind,outcome}`
    pub identity_links: IntCounterVec,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Makes every metric of the table in a registry of its own.
    ///
    /// # Errors
    /// If the table contradicts itself: a fault of the program, which its tests find.
    pub fn new() -> Result<Self, Error> {
        let maker = Maker { registry: Registry::new() };
        let build_info = maker.int_gauges("build_info")?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Metrics {
            raw_messages: maker.counters("raw_messages_total")?,
            accepted: maker.counter("accepted_total")?,
            events: maker.counter("events_total")?,
            dead_letters: maker.counters("dead_letters_total")?,
            dropped: maker.counters("dropped_total")?,
            unread_resources: maker.counters("unread_resources_total")?,
            lenient: maker.counters("lenient_total")?,
            implausible: maker.counters("implausible_total")?,
            unmapped_events: maker.counter("unmapped_events_total")?,
            redelivered_events: maker.counter("redelivered_events_total")?,
            corrected_events: maker.counter("corrected_events_total")?,
            retracted_events: maker.counter("retracted_events_total")?,
            scores: maker.counters("scores_total")?,
            alerts: maker.counters("alerts_total")?,
            alert_latency: maker.histogram("alert_latency_seconds")?,
            stage_seconds: maker.histograms("stage_seconds")?,
            transactions: maker.counters("transactions_total")?,
            transaction_seconds: maker.histograms("transaction_seconds")?,
            transaction_wait_seconds: maker.histograms("transaction_wait_seconds")?,
            source_wait_seconds: maker.histograms("source_wait_seconds")?,
            consumer_lag: maker.int_gauges("consumer_lag")?,
            archive_lag: maker.int_gauges("archive_lag")?,
            catch_up_seconds: maker.gauges("catch_up_seconds")?,
            watermark_seconds: maker.gauges("watermark_seconds")?,
            queue_bytes: maker.int_gauges("queue_bytes")?,
            state_subjects: maker.int_gauge("state_subjects")?,
            state_resting_subjects: maker.int_gauge("state_resting_subjects")?,
            woken_subjects: maker.counter("woken_subjects_total")?,
            state_bytes: maker.int_gauge("state_bytes")?,
            archive_position: maker.int_gauges("archive_position")?,
            archived_rows: maker.counters("archived_rows_total")?,
            model_info: maker.int_gauges("model_info")?,
            model_auroc: maker.gauges("model_auroc")?,
            swaps: maker.counters("swaps_total")?,
            labels: maker.counters("labels_total")?,
            label_lag: maker.histograms("label_lag_seconds")?,
            train_seconds: maker.gauges("train_seconds")?,
            identity_links: maker.counters("identity_links_total")?,
            scoring: Arc::default(),
            registry: maker.registry,
        })
    }

    /// The text that `/metrics` answers (Prometheus text format 0.0.4).
    ///
    /// # Errors
    /// If a metric cannot be encoded.
    pub fn render(&self) -> Result<String, Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// How far behind this process is: lags, times to catch up, watermarks and what waits, as in
    /// [`render`](Metrics::render).
    ///
    /// # Errors
    /// If a metric cannot be encoded.
    pub fn progress(&self) -> Result<String, Error> {
        let mut families = self.registry.gather();
        families.retain(|family| {
            let name = family.name().strip_prefix(PREFIX).unwrap_or_default().trim_start_matches('_');
            ["consumer_lag", "archive_lag", "catch_up_seconds", "watermark_seconds", "queue_bytes"].contains(&name)
        });
        TextEncoder::new().encode_to_string(&families)
    }

    /// Says which model scores `task` from now on: `model_info` shows this one and no other.
    pub fn scores_with(&self, task: &str, name: &str, version: &str) {
        let mut scoring = self.scoring.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((old, old_version)) = scoring.insert(task.to_owned(), (name.to_owned(), version.to_owned())) {
            // It fails only if the series is gone already.
            let _ = self.model_info.remove_label_values(&[task, old.as_str(), old_version.as_str()]);
        }
        self.model_info.with_label_values(&[task, name, version]).set(1);
    }

    /// Takes out what a role knew of a partition that another process owns now: a gauge that nobody
    /// sets any more would show a lag for ever.
    pub fn forget_partition(&self, role: &str, topic: &str, partition: i32) {
        let partition = partition.to_string();
        let labels = [topic, partition.as_str()];
        // They fail only where there was no such series.
        let _ = self.catch_up_seconds.remove_label_values(&[role, topic, partition.as_str()]);
        if role == "archive" {
            let _ = self.archive_lag.remove_label_values(&labels);
        } else {
            let _ = self.consumer_lag.remove_label_values(&labels);
            let _ = self.watermark_seconds.remove_label_values(&labels);
        }
    }
}

/// Makes handles by their names in the table.
struct Maker {
    registry: Registry,
}

impl Maker {
    fn counter(&self, name: &str) -> Result<IntCounter, Error> {
        let opts = opts(unlabelled(of(name, |kind| kind == Kind::Counter)?)?);
        self.register(IntCounter::with_opts(opts)?)
    }

    fn counters(&self, name: &str) -> Result<IntCounterVec, Error> {
        let spec = of(name, |kind| kind == Kind::Counter)?;
        self.register(IntCounterVec::new(opts(spec), spec.labels)?)
    }

    fn int_gauge(&self, name: &str) -> Result<IntGauge, Error> {
        let opts = opts(unlabelled(of(name, |kind| kind == Kind::Gauge)?)?);
        self.register(IntGauge::with_opts(opts)?)
    }

    fn int_gauges(&self, name: &str) -> Result<IntGaugeVec, Error> {
        let spec = of(name, |kind| kind == Kind::Gauge)?;
        self.register(IntGaugeVec::new(opts(spec), spec.labels)?)
    }

    fn gauges(&self, name: &str) -> Result<GaugeVec, Error> {
        let spec = of(name, |kind| kind == Kind::Gauge)?;
        self.register(GaugeVec::new(opts(spec), spec.labels)?)
    }

    fn histogram(&self, name: &str) -> Result<Histogram, Error> {
        let spec = unlabelled(of(name, |kind| matches!(kind, Kind::Histogram(_)))?)?;
        self.register(Histogram::with_opts(histogram_opts(spec))?)
    }

    fn histograms(&self, name: &str) -> Result<HistogramVec, Error> {
        let spec = of(name, |kind| matches!(kind, Kind::Histogram(_)))?;
        self.register(HistogramVec::new(histogram_opts(spec), spec.labels)?)
    }

    fn register<T: Collector + Clone + 'static>(&self, metric: T) -> Result<T, Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn of(name: &str, fits: impl Fn(Kind) -> bool) -> Result<&'static Spec, Error> {
    TABLE
        .iter()
        .find(|spec| spec.name == name && fits(spec.kind))
        .ok_or_else(|| Error::Msg(format!("no metric {name} of this kind in the table")))
}

fn unlabelled(spec: &'static Spec) -> Result<&'static Spec, Error> {
    if spec.labels.is_empty() { Ok(spec) } else { Err(Error::Msg(format!("metric {} has labels", spec.name))) }
}

fn opts(spec: &Spec) -> Opts {
    Opts::new(spec.name, spec.help).namespace(PREFIX)
}

fn histogram_opts(spec: &Spec) -> HistogramOpts {
    let buckets = if let Kind::Histogram(bounds) = spec.kind { bounds.to_vec() } else { Vec::new() };
    HistogramOpts::new(spec.name, spec.help).namespace(PREFIX).buckets(buckets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Touches every series that appears only when it has a label.
    fn touched() -> Metrics {
        let metrics = Metrics::new().unwrap();
        metrics.raw_messages.with_label_values(&["raw.flat"]).inc_by(3);
        let unread = [&metrics.unread_resources, &metrics.lenient];
        for counters in [&metrics.dead_letters, &metrics.dropped, &metrics.implausible].into_iter().chain(unread) {
            counters.with_label_values(&["x"]).inc();
        }
        metrics.scores.with_label_values(&["t", "ok"]).inc();
        metrics.alerts.with_label_values(&["t", "watch", "raise"]).inc();
        metrics.stage_seconds.with_label_values(&["decode"]).observe(0.002);
        metrics.transactions.with_label_values(&["score", "committed"]).inc();
        metrics.transaction_seconds.with_label_values(&["score"]).observe(0.004);
        metrics.transaction_wait_seconds.with_label_values(&["score"]).observe(0.001);
        metrics.source_wait_seconds.with_label_values(&["score"]).observe(0.001);
        metrics.consumer_lag.with_label_values(&["raw.flat", "0"]).set(5);
        metrics.archive_lag.with_label_values(&["auscult.events", "0"]).set(5);
        metrics.catch_up_seconds.with_label_values(&["normalize", "raw.flat", "0"]).set(2.5);
        metrics.watermark_seconds.with_label_values(&["raw.flat", "0"]).set(1.5);
        metrics.queue_bytes.with_label_values(&["score"]).set(7);
        metrics.archive_position.with_label_values(&["0"]).set(-7);
        metrics.archived_rows.with_label_values(&["events"]).inc();
        metrics.model_auroc.with_label_values(&["t", "held_out"]).set(0.84);
        metrics.swaps.with_label_values(&["t"]).inc();
        metrics.labels.with_label_values(&["t", "true"]).inc();
        metrics.label_lag.with_label_values(&["t"]).observe(90_000.0);
        metrics.train_seconds.with_label_values(&["t"]).set(12.0);
        metrics.identity_links.with_label_values(&["merge", "done"]).inc();
        metrics.scores_with("t", "boosting", "1");
        metrics
    }

    #[test]
    fn every_row_of_the_table_is_rendered() {
        let text = touched().render().unwrap();
        for spec in TABLE {
            let kind = match spec.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            let header = format!("# HELP auscult_{0} {1}\n# TYPE auscult_{0} {kind}\n", spec.name, spec.help);
            assert!(text.contains(&header), "{}", spec.name);
        }
        assert!(text.contains("auscult_raw_messages_total{topic=\"raw.flat\"} 3\n"), "{text}");
        assert!(text.contains("auscult_archive_position{partition=\"0\"} -7\n"), "{text}");
        assert!(text.contains("auscult_events_total 0\n"), "a counter without labels is there from the start");
    }

    #[test]
    fn progress_is_a_part_of_the_whole() {
        let metrics = touched();
        let (progress, whole) = (metrics.progress().unwrap(), metrics.render().unwrap());
        assert!(progress.contains("auscult_consumer_lag{partition=\"0\",topic=\"raw.flat\"} 5\n"), "{progress}");
        assert_eq!(progress.lines().filter(|line| line.starts_with("# TYPE")).count(), 5);
        assert!(progress.lines().all(|line| whole.contains(line)));
    }

    #[test]
    fn two_processes_in_one_test_share_nothing() {
        let (a, b) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        a.events.inc_by(2);
        a.clone().events.inc();
        assert_eq!((a.events.get(), b.events.get()), (3, 0));
    }

    #[test]
    fn one_model_scores_a_task() {
        let metrics = touched();
        metrics.scores_with("t", "boosting", "2");
        metrics.scores_with("u", "mlp", "1");
        let text = metrics.render().unwrap();
        let shown: Vec<&str> = text.lines().filter(|line| line.starts_with("auscult_model_info{")).collect();
        let expected = [
            "auscult_model_info{name=\"boosting\",task=\"t\",version=\"2\"} 1",
            "auscult_model_info{name=\"mlp\",task=\"u\",version=\"1\"} 1",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_lost_partition_is_forgotten() {
        let metrics = touched();
        metrics.consumer_lag.with_label_values(&["raw.flat", "1"]).set(9);
        metrics.forget_partition("normalize", "raw.flat", 0);
        metrics.forget_partition("score", "never.seen", 3);
        let text = metrics.render().unwrap();
        assert!(text.contains("auscult_consumer_lag{partition=\"1\",topic=\"raw.flat\"} 9\n"), "{text}");
        let is_of_it = |line: &str| line.contains("partition=\"0\"") && line.contains("topic=\"raw.flat\"");
        assert!(!text.lines().any(is_of_it), "{text}");
    }

    #[test]
    fn a_name_that_the_table_lacks_is_refused() {
        let maker = Maker { registry: Registry::new() };
        assert!(maker.counter("no_such_total").is_err());
        assert!(maker.counter("state_bytes").is_err(), "a gauge is no counter");
        assert!(maker.counter("scores_total").is_err(), "labels need a vector");
        assert!(maker.int_gauge("state_bytes").is_ok());
        assert!(maker.int_gauge("state_bytes").is_err(), "each once");
    }
}
