//! The topics of a service: the events must be there, the others are made.

use crate::config::Config;
use crate::kafka::{Client, Topics};
use anyhow::bail;

pub(super) fn ensure_topics(client: &Client, config: &Config) -> anyhow::Result<()> {
    let topics = Topics::new(client)?;
    let kafka = &config.kafka;
    let partitions = topics.partitions(&kafka.events)?;
    if partitions == 0 {
        bail!(
            "topic {:?} ([kafka] events) does not exist on {:?}: create it, or check the name",
            kafka.events,
            kafka.brokers
        );
    }
    topics.ensure(&kafka.predictions, partitions, &[])?;
    topics.ensure(&kafka.dead_letters, 1, &[])?;
    topics.ensure(&kafka.labels, 1, &[])?;
    topics.ensure(
        &kafka.label_log,
        1,
        &[("retention.ms", "-1"), ("retention.bytes", "-1"), ("cleanup.policy", "delete")],
    )?;
    let found = topics.partitions(&kafka.label_log)?;
    if found > 1 {
        bail!(
            "topic {:?} ([kafka] label_log) has {found} partitions, but its order is what every model is folded from: it must have 1",
            kafka.label_log
        );
    }
    Ok(())
}
