//! How larum connects: the configuration of every client, and librdkafka's log lines in ours.

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use std::collections::BTreeMap;

/// What every client of one service shares.
#[derive(Debug, Clone)]
pub struct Client {
    brokers: String,
    /// Handed to librdkafka unchanged.
    options: BTreeMap<String, String>,
}

impl Client {
    #[must_use]
    pub fn new(brokers: &str, options: &BTreeMap<String, String>) -> Self {
        Self { brokers: brokers.into(), options: options.clone() }
    }

    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    pub(super) fn config(&self, role: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", format!("larum-{role}"));
        for (key, value) in &self.options {
            config.set(key, value);
        }
        config
    }

    pub(super) fn consumer(&self, role: &str, group: &str) -> ClientConfig {
        let mut config = self.config(role);
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A seek beyond the log must be seen and counted, never be mended silently.
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "false");
        config
    }
}

/// Passes librdkafka's log lines on to `tracing`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Logging;

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka client reports an error");
    }
}

pub(super) fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(facility, message, "kafka client");
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => tracing::warn!(facility, message, "kafka client"),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "kafka client"),
    }
}
