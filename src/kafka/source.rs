//! The poll thread: it owns the consumer of the events topic, and hands records to their partition's owner.

use super::batch::Batch;
use super::client::Client;
use super::handover::{Handover, SourceEvent};
use super::rebalance::Rebalances;
use anyhow::{Context, bail};
use crossbeam_channel::{Receiver, bounded, tick};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Larger batches gained nothing; smaller ones cost a wake-up per few records.
const BATCH_RECORDS_MAX: usize = 512;
/// A batch ends sooner when its records are large, so that a full queue of them is bounded in bytes, too.
const BATCH_BYTES_MAX: usize = 1 << 20;
pub(super) const IDLE_POLL: Duration = Duration::from_millis(50);
pub(super) const BROKER_TIMEOUT: Duration = Duration::from_secs(20);
/// A hand-over that waits longer pauses the partitions and goes on polling, or the group would take this member for dead.
const PATIENCE: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The source of events.
pub struct Source<H: Handover> {
    consumer: BaseConsumer<Rebalances<H>>,
    stop: Arc<AtomicBool>,
}

impl<H: Handover> std::fmt::Debug for Source<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl<H: Handover> Source<H> {
    /// Joins the group.
    ///
    /// # Errors
    /// When librdkafka refuses an option.
    pub fn open(
        client: &Client,
        group: &str,
        topic: &str,
        handover: Arc<H>,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<Self> {
        let mut config = client.consumer("source", group);
        for (key, value) in [
            ("fetch.wait.max.ms", "50"),
            ("topic.metadata.refresh.interval.ms", "10000"),
            ("queued.max.messages.kbytes", "65536"),
        ] {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        let context = Rebalances::new(topic, handover, stop.clone());
        let consumer: BaseConsumer<_> =
            config.create_with_context(context).context("the Kafka consumer was refused")?;
        consumer.subscribe(&[topic])?;
        Ok(Self { consumer, stop })
    }

    /// Polls until told to stop; tells the group the last offsets once `committed` is closed, and leaves it.
    ///
    /// # Errors
    /// When reading cannot go on.
    pub fn run(self, committed: &Receiver<()>) -> anyhow::Result<()> {
        let result = self.poll_until_stopped();
        // Whoever stops us waits for the last commits with a deadline of its own; on a failure nobody has closed it yet.
        if result.is_ok() {
            committed.recv().ok();
            self.tell_group(self.consumer.context(), CommitMode::Sync);
        }
        // Closing waits for the broker; where none answers, the process must still end.
        let (done, closed) = bounded::<()>(1);
        let consumer = self.consumer;
        std::thread::spawn(move || {
            drop(consumer);
            drop(done);
        });
        if closed.recv_timeout(CLOSE_TIMEOUT) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            tracing::warn!(
                "the consumer did not leave its group in time; the group will notice by its session timeout"
            );
        }
        result
    }

    fn poll_until_stopped(&self) -> anyhow::Result<()> {
        let context = self.consumer.context().clone();
        let mut batches: Vec<Batch> = context.handover.inboxes().iter().map(|_| Batch::default()).collect();
        let group_commits = tick(Duration::from_secs(1));
        let mut waiting = false;
        while !self.stop.load(Ordering::Acquire) {
            match self.consumer.poll(if waiting { Duration::ZERO } else { IDLE_POLL }) {
                Some(Ok(message)) => {
                    context.next().insert(message.partition(), message.offset() + 1);
                    let owner = context.handover.owner(message.partition());
                    batches[owner].push(&message);
                    waiting = true;
                    if batches[owner].records.len() >= BATCH_RECORDS_MAX || batches[owner].bytes() >= BATCH_BYTES_MAX {
                        self.flush(&context, &mut batches[owner])?;
                    }
                }
                None => {
                    for batch in &mut batches {
                        self.flush(&context, batch)?;
                    }
                    waiting = false;
                }
                Some(Err(error)) => self.on_error(&context, &error)?,
            }
            if let Some(error) = context.take_failure() {
                return Err(error);
            }
            if group_commits.try_recv().is_ok() {
                self.tell_group(&context, CommitMode::Async);
            }
        }
        Ok(())
    }

    fn flush(&self, context: &Rebalances<H>, batch: &mut Batch) -> anyhow::Result<()> {
        let Some(first) = batch.records.first() else { return Ok(()) };
        let partition = first.partition;
        let mut waits = 0;
        let mut paused = None;
        let (mut seek_failed, mut poll_failed) = (None, None);
        let next = batch.like();
        let records = std::mem::replace(batch, next);
        context.hand_over(partition, SourceEvent::Records(records), || {
            waits += 1;
            if IDLE_POLL * waits < PATIENCE {
                return;
            }
            if paused.is_none() {
                tracing::warn!(
                    partition,
                    "scoring does not keep up (is the broker or the store away?); reading is paused"
                );
                paused = self.consumer.assignment().ok();
                if let Some(all) = &paused
                    && let Err(error) = self.consumer.pause(all)
                {
                    tracing::warn!(%error, "cannot pause");
                }
            }
            // Paused partitions deliver nothing; this poll only tells the group that we live. A rebalance waits its turn.
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    if let Err(error) =
                        self.consumer.seek(&context.topic, partition, Offset::Offset(offset), BROKER_TIMEOUT)
                    {
                        seek_failed.get_or_insert(error);
                    }
                }
                Some(Err(error)) => {
                    poll_failed.get_or_insert(error);
                }
                None => {}
            }
        })?;
        if let Some(all) = paused {
            self.consumer.resume(&all)?;
        }
        if let Some(error) = poll_failed {
            self.on_error(context, &error)?;
        }
        seek_failed
            .map_or(Ok(()), |error| Err(error).context("a record that came while paused could not be read again"))
    }

    fn on_error(&self, context: &Rebalances<H>, error: &KafkaError) -> anyhow::Result<()> {
        let KafkaError::MessageConsumption(code) = error else {
            tracing::warn!(%error, "reading waits for the broker");
            return Ok(());
        };
        match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => self.skip_what_is_gone(context),
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::Fatal
            | RDKafkaErrorCode::UnstableOffsetCommit => {
                bail!("cannot go on reading topic {:?}: {code}", context.topic)
            }
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                bail!("topic {:?} does not exist (any more)", context.topic)
            }
            _ => {
                tracing::warn!(%error, "reading waits for the broker");
                Ok(())
            }
        }
    }

    /// The broker has deleted records that were still to be read: they are counted, and reading goes on after them.
    fn skip_what_is_gone(&self, context: &Rebalances<H>) -> anyhow::Result<()> {
        let mut positions = context.next().clone();
        for (&partition, next) in &mut positions {
            let watermarks = self.consumer.fetch_watermarks(&context.topic, partition, BROKER_TIMEOUT)?;
            *next = context.within(watermarks, partition, *next)?;
        }
        // A partition whose position is gone takes no seek.
        self.consumer.assign(&context.list(&positions)?)?;
        *context.next() = positions;
        Ok(())
    }

    fn tell_group(&self, context: &Rebalances<H>, mode: CommitMode) {
        let assigned = context.next().clone();
        let mut list = TopicPartitionList::new();
        for (partition, offset) in context.handover.committed() {
            if assigned.contains_key(&partition)
                && let Err(error) = list.add_partition_offset(&context.topic, partition, Offset::Offset(offset))
            {
                tracing::warn!(%error, "cannot tell the group an offset");
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, mode)
        {
            tracing::debug!(%error, "the group was not told the offsets; only lag tools need them");
        }
    }
}
