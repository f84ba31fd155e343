//! The group's callbacks: where an assigned partition is read from, and whose it is.

use super::client::log_line;
use super::handover::{Handover, Position, SourceEvent};
use super::source::{BROKER_TIMEOUT, IDLE_POLL};
use anyhow::bail;
use crossbeam_channel::{SendTimeoutError, TrySendError};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Stands between the group and the owners: an assignment is positioned and handed over, and so is its end.
pub(super) struct Rebalances<H> {
    pub(super) topic: String,
    pub(super) handover: Arc<H>,
    /// The offset expected next, by assigned partition.
    next: Mutex<BTreeMap<i32, i64>>,
    failure: Mutex<Option<anyhow::Error>>,
    stop: Arc<AtomicBool>,
}

impl<H: Handover> ClientContext for Rebalances<H> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka consumer reports an error");
    }
}

impl<H: Handover> ConsumerContext for Rebalances<H> {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<i32> =
            list.elements().iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition).collect();
        let result = if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, &partitions)
        } else {
            self.revoke(consumer)
        };
        if let Err(error) = result {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}

impl<H: Handover> Rebalances<H> {
    pub(super) fn new(topic: &str, handover: Arc<H>, stop: Arc<AtomicBool>) -> Self {
        Self { topic: topic.into(), handover, next: Mutex::default(), failure: Mutex::default(), stop }
    }

    pub(super) fn next(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, i64>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went wrong in a callback, which can tell nobody itself.
    pub(super) fn take_failure(&self) -> Option<anyhow::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> anyhow::Result<()> {
        let metadata = consumer.fetch_metadata(Some(&self.topic), BROKER_TIMEOUT)?;
        let count = metadata.topics().first().map_or(0, |t| t.partitions().len());
        let mut next = BTreeMap::new();
        for &partition in partitions {
            next.insert(partition, self.resolve(consumer, partition)?);
        }
        self.handover.positioned();
        for (&partition, &offset) in &next {
            let partitions = u32::try_from(count).unwrap_or(u32::MAX).max(1);
            self.hand_over(partition, SourceEvent::Assigned { partition, partitions, offset }, || {})?;
            tracing::info!(topic = self.topic, partition, offset, "partition assigned");
        }
        consumer.assign(&self.list(&next)?)?;
        *self.next() = next;
        Ok(())
    }

    /// The partitions with where each is to be read from.
    pub(super) fn list(&self, positions: &BTreeMap<i32, i64>) -> anyhow::Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (&partition, &offset) in positions {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        }
        Ok(list)
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>) -> anyhow::Result<()> {
        // The owners commit on their own: this callback must not wait for them. What they commit is fenced by the offset.
        let revoked = std::mem::take(&mut *self.next());
        for &partition in revoked.keys() {
            self.hand_over(partition, SourceEvent::Revoked { partition }, || {})?;
            tracing::info!(topic = self.topic, partition, "partition revoked");
        }
        consumer.unassign()?;
        Ok(())
    }

    /// The offset to read from, which is at least the low watermark: what lies below is gone, and counted.
    fn resolve(&self, consumer: &BaseConsumer<Self>, partition: i32) -> anyhow::Result<i64> {
        let position = self.handover.position(partition)?;
        let watermarks = consumer.fetch_watermarks(&self.topic, partition, BROKER_TIMEOUT)?;
        let offset = match position {
            Position::Beginning => watermarks.0,
            Position::End => watermarks.1,
            Position::Offset(offset) => offset,
            Position::Time(time_ms) => {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(&self.topic, partition, Offset::Offset(time_ms))?;
                match consumer
                    .offsets_for_times(list, BROKER_TIMEOUT)?
                    .find_partition(&self.topic, partition)
                    .map(|e| e.offset())
                {
                    Some(Offset::Offset(offset)) => offset,
                    _ => watermarks.1,
                }
            }
        };
        self.within(watermarks, partition, offset)
    }

    /// The offset, or the low watermark when the broker has deleted what lies before it: that is counted.
    ///
    /// # Errors
    /// When it is beyond the end of the log.
    pub(super) fn within(&self, (low, high): (i64, i64), partition: i32, offset: i64) -> anyhow::Result<i64> {
        if offset > high {
            bail!(
                "topic {:?} partition {partition} ends at offset {high}, but {offset} was scored before: the topic was deleted and made anew; use a new store with it",
                self.topic
            );
        }
        if offset < low {
            self.handover.lost(partition, low - offset);
            tracing::error!(
                topic = self.topic,
                partition,
                expected = offset,
                low_watermark = low,
                "records were deleted before they were read"
            );
        }
        Ok(offset.max(low))
    }

    /// Puts an event into the owner's inbox; `meanwhile` runs while that is full.
    pub(super) fn hand_over(
        &self,
        partition: i32,
        event: SourceEvent,
        mut meanwhile: impl FnMut(),
    ) -> anyhow::Result<()> {
        let inbox = &self.handover.inboxes()[self.handover.owner(partition)];
        let mut message = match inbox.try_send(H::Message::from(event)) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(message)) => {
                self.handover.inbox_full();
                message
            }
            Err(TrySendError::Disconnected(message)) => message, // told below
        };
        loop {
            match inbox.send_timeout(message, IDLE_POLL) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) => {
                    if self.stop.load(Ordering::Acquire) {
                        return Ok(()); // what was not handed over is read again by the next start
                    }
                    message = back;
                    meanwhile();
                }
                // What was not taken over before the end is read again by the next start.
                Err(SendTimeoutError::Disconnected(_)) if self.stop.load(Ordering::Acquire) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => bail!("the owner of partition {partition} has stopped"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Sender, bounded};
    use std::sync::atomic::AtomicUsize;

    struct Inbox(Vec<Sender<SourceEvent>>, AtomicUsize);

    impl Handover for Inbox {
        type Message = SourceEvent;

        fn position(&self, _: i32) -> anyhow::Result<Position> {
            Ok(Position::Beginning)
        }

        fn positioned(&self) {}

        fn owner(&self, _: i32) -> usize {
            0
        }

        fn inboxes(&self) -> &[Sender<SourceEvent>] {
            &self.0
        }

        fn inbox_full(&self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }

        fn lost(&self, _: i32, _: i64) {}

        fn committed(&self) -> BTreeMap<i32, i64> {
            BTreeMap::new()
        }
    }

    #[test]
    fn a_full_inbox_is_counted_once_and_waited_for() {
        let (inbox, owner) = bounded(1);
        let handover = Arc::new(Inbox(vec![inbox], AtomicUsize::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let rebalances = Rebalances::new("requests", handover.clone(), stop.clone());
        let event = |partition| SourceEvent::Revoked { partition };
        rebalances.hand_over(0, event(0), || panic!("there is room")).unwrap();
        assert_eq!(handover.1.load(Ordering::Relaxed), 0);
        let mut waits = 0;
        let wait = || {
            waits += 1;
            if waits == 3 {
                assert!(matches!(owner.try_recv(), Ok(SourceEvent::Revoked { partition: 0 })));
            }
        };
        rebalances.hand_over(1, event(1), wait).unwrap();
        assert!(matches!(owner.try_recv(), Ok(SourceEvent::Revoked { partition: 1 })));
        assert_eq!((waits, handover.1.load(Ordering::Relaxed)), (3, 1));
        // An owner that has ended is an error, but not while the service stops.
        drop(owner);
        assert!(rebalances.hand_over(0, event(0), || {}).is_err());
        stop.store(true, Ordering::Release);
        rebalances.hand_over(0, event(0), || {}).unwrap();
    }
}
