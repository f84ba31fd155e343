//! librdkafka's built-in mock broker, for the demo and for quick tests: it keeps 5 MiB a partition and forgets all on exit.

use anyhow::Context;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// A broker inside this process. It stops when dropped.
pub struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl std::fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedBroker").field("brokers", &self.brokers()).finish()
    }
}

impl EmbeddedBroker {
    /// # Errors
    /// When no loopback port can be opened.
    pub fn start() -> anyhow::Result<Self> {
        Ok(Self { cluster: MockCluster::new(1).context("cannot start the embedded broker")? })
    }

    #[must_use]
    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// # Errors
    /// When the topic exists already.
    pub fn create_topic(&self, name: &str, partitions: i32) -> anyhow::Result<()> {
        self.cluster.create_topic(name, partitions, 1).with_context(|| format!("cannot create topic {name:?}"))
    }
}
