//! The topics: which exist, how many partitions they have, and making those that larum owns.

use super::client::{Client, Logging};
use anyhow::{Context, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Something about a topic that would lose data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicIssue {
    pub topic: String,
    pub what: String,
}

/// Asks about topics and makes them.
pub struct Topics {
    brokers: String,
    admin: AdminClient<Logging>,
    consumer: BaseConsumer<Logging>,
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

impl Topics {
    /// # Errors
    /// When librdkafka refuses an option.
    pub fn new(client: &Client) -> anyhow::Result<Self> {
        let config = client.config("topics");
        Ok(Self {
            brokers: client.brokers().into(),
            admin: config.create_with_context(Logging).context("the Kafka client was refused")?,
            consumer: client.consumer("topics", "larum-topics").create_with_context(Logging)?,
        })
    }

    /// The number of partitions; 0 when the topic does not exist.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn partitions(&self, topic: &str) -> anyhow::Result<u32> {
        // Asking for all topics: asking for one by name would create it where the broker makes topics by itself.
        let metadata = self.consumer.fetch_metadata(None, TIMEOUT).with_context(|| {
            format!("no answer from the brokers {:?}: check [kafka] brokers and [kafka.client]", self.brokers)
        })?;
        let found = metadata.topics().iter().find(|t| t.name() == topic).map_or(0, |t| t.partitions().len());
        Ok(u32::try_from(found).unwrap_or(u32::MAX))
    }

    /// Makes the topic unless it exists. True when it was made.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn ensure(&self, topic: &str, partitions: u32, settings: &[(&str, &str)]) -> anyhow::Result<bool> {
        if self.partitions(topic)? > 0 {
            return Ok(false);
        }
        let count = i32::try_from(partitions).unwrap_or(i32::MAX);
        let mut new = NewTopic::new(topic, count, TopicReplication::Fixed(-1));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        let results =
            block_on(self.admin.create_topics([&new], &AdminOptions::new().operation_timeout(Some(TIMEOUT))))?;
        match results.into_iter().next() {
            Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {}
            Some(Err((_, code))) => {
                bail!("cannot create topic {topic:?}: {code}; create it yourself or allow larum to")
            }
            None => bail!("the broker did not say whether topic {topic:?} was created"),
        }
        tracing::info!(topic, partitions, "topic created");
        Ok(true)
    }

    /// Settings of the label log that would make it forget: it is folded from its first record at every start.
    ///
    /// # Errors
    /// When the broker does not describe the topic.
    pub fn label_log_issues(&self, topic: &str) -> anyhow::Result<Vec<TopicIssue>> {
        let results = block_on(self.admin.describe_configs([&ResourceSpecifier::Topic(topic)], &AdminOptions::new()))?;
        let config = results
            .into_iter()
            .next()
            .with_context(|| format!("the broker did not describe topic {topic:?}"))?
            .map_err(|code| anyhow::anyhow!("the broker does not describe topic {topic:?}: {code}"))?;
        let value = |name: &str| config.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
        let mut issues = Vec::new();
        let mut expect = |name: &str, wanted: &str| {
            let found = value(name);
            if found != wanted {
                issues.push(TopicIssue {
                    topic: topic.into(),
                    what: format!("{name} is {found:?}, it must be {wanted:?}"),
                });
            }
        };
        expect("retention.ms", "-1");
        expect("retention.bytes", "-1");
        expect("cleanup.policy", "delete");
        let partitions = self.partitions(topic)?;
        if partitions != 1 {
            issues.push(TopicIssue {
                topic: topic.into(),
                what: format!("it has {partitions} partitions, it must have 1"),
            });
        }
        Ok(issues)
    }
}

/// The admin client answers futures; the commands that use it have no runtime of their own.
fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime without threads needs no resources")
        .block_on(future)
}
