//! The client configurations, each setting with its reason.

use rdkafka::ClientConfig;

use crate::settings::Kafka;

/// What every client shares: brokers, the site's own properties (TLS, SASL), short names.
fn common(kafka: &Kafka, name: &str) -> ClientConfig {
    let deadline = kafka.deadline.as_millis().clamp(1_000, 300_000).to_string();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", format!("{}-{name}", kafka.group))
        // A broker may fall silent without closing the connection. librdkafka then waits a minute for an answer
        // and ten seconds for the first one of a new connection, several times over and whatever deadline the
        // call was given: a transaction adds its offsets without one.
        .set("socket.timeout.ms", &deadline)
        .set("api.version.request.timeout.ms", &deadline)
        // A broker that is back is found within a second, and not within ten. Some waits end by a look at
        // how it is, whenever that changes.
        .set("reconnect.backoff.max.ms", "1000");
    for (key, value) in &kafka.client {
        config.set(key, value.expose());
    }
    // librdkafka's texts hold host names and topics, never records; errors reach us as values anyway.
    config.set("log_level", "4");
    config
}

/// Name of a role's consumer group.
pub(super) fn group(kafka: &Kafka, role: &str) -> String {
    format!("{}-{role}", kafka.group)
}

/// A reader without a group, for metadata and whole partitions.
pub(super) fn reader(kafka: &Kafka, name: &str) -> ClientConfig {
    let mut config = common(kafka, name);
    config
        // librdkafka wants a group for any consumer; nothing is ever committed under it.
        .set("group.id", format!("{}-{name}-reader", kafka.group))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "10")
        .set("fetch.queue.backoff.ms", "10");
    config
}

/// A member of a role's consumer group.
pub(super) fn consumer(kafka: &Kafka, role: &str, instance: &str, queue_bytes: usize) -> ClientConfig {
    let mut config = common(kafka, role);
    config
        .set("group.id", group(kafka, role))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("partition.assignment.strategy", "cooperative-sticky")
        // Every start offset is given explicitly; falling out of range is an error, not a jump.
        .set("auto.offset.reset", "error")
        // A recovery reads a partition's history inside the rebalance.
        .set("max.poll.interval.ms", "1800000")
        // A member that is killed and started again takes its partitions back at once.
        .set("group.instance.id", format!("{}-{role}-{instance}", kafka.group))
        .set("session.timeout.ms", kafka.session.as_millis().to_string())
        // A few may be lost before the session is over.
        .set("heartbeat.interval.ms", (kafka.session.as_millis() / 5).min(3000).to_string())
        // The broker answers as soon as there is a byte; this only bounds an idle round trip.
        .set("fetch.wait.max.ms", "20")
        .set("fetch.min.bytes", "1")
        // Half of the bound waits in librdkafka, half between its thread and the role.
        .set("queued.max.messages.kbytes", (queue_bytes / 2048).clamp(1024, 2_097_151).to_string())
        .set("queued.min.messages", "100000")
        // Whoever finds its queue full asks again after this long, by default after a second: by then the
        // role has long eaten what waited, and half of a backlog's time is spent on nothing.
        .set("fetch.queue.backoff.ms", "10");
    config
}

/// A transactional producer. A transaction costs 205 ms with the defaults and about 4 ms with the two marked settings.
pub(super) fn transactional(kafka: &Kafka, role: &str, instance: &str, message_bytes: usize) -> ClientConfig {
    let mut config = producer(kafka, role, message_bytes);
    config
        .set("transactional.id", format!("{}-{role}-{instance}", kafka.group))
        .set("transaction.timeout.ms", "60000")
        // (1) Saves 100 ms: the broker answers CONCURRENT_TRANSACTIONS
        // while it writes the last one's markers, and the retry waits this long.
        .set("retry.backoff.ms", "1")
        // It is done within a few milliseconds, and each retry waits twice as long as the one before.
        .set("retry.backoff.max.ms", "10");
    config
}

/// An idempotent producer: without that, a retry reorders.
pub(super) fn producer(kafka: &Kafka, role: &str, message_bytes: usize) -> ClientConfig {
    let mut config = common(kafka, role);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("compression.type", "lz4")
        .set("linger.ms", "0")
        .set("message.max.bytes", message_bytes.to_string())
        .set("queue.buffering.max.messages", "1000000");
    config
}
