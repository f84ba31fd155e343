//! Plain librdkafka: filling the events topic, and the bare consume-and-produce loop that the service is held against.

use crate::{EVENTS_TOPIC, Measured, PARTITIONS, process, workload};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, ClientContext};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Counts what the broker has acknowledged.
struct Deliveries(Arc<AtomicU64>);

impl ClientContext for Deliveries {}

impl rdkafka::producer::ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::producer::DeliveryResult<'_>, (): ()) {
        self.0.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
    }
}

/// As the service's own: idempotent, `acks=all`, and the same queue and linger.
fn producer(brokers: &str) -> (ThreadedProducer<Deliveries>, Arc<AtomicU64>) {
    let delivered = Arc::new(AtomicU64::new(0));
    let mut config = ClientConfig::new();
    for (key, value) in [
        ("bootstrap.servers", brokers),
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("linger.ms", "50"),
        ("queue.buffering.max.messages", "200000"),
        ("queue.buffering.max.kbytes", "262144"),
    ] {
        config.set(key, value);
    }
    (config.create_with_context(Deliveries(delivered.clone())).unwrap(), delivered)
}

fn send(producer: &ThreadedProducer<Deliveries>, record: BaseRecord<'_, [u8], [u8]>) {
    let mut record = record;
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => panic!("sending: {error}"),
        }
    }
}

fn flush(producer: &ThreadedProducer<Deliveries>, delivered: &AtomicU64, events: u64) {
    producer.flush(PATIENCE).unwrap();
    assert_eq!(delivered.load(Ordering::Relaxed), events, "records that the broker acknowledged");
}

/// Produces the workload, each entity to one partition, ending at the present. Answers the mean number of bytes.
pub(crate) fn fill(brokers: &str, events: u64) -> u64 {
    let epoch_ms = larum::telemetry::now_ms() - workload::time_ms(events, 0);
    let (producer, delivered) = producer(brokers);
    let mut bytes = 0;
    for index in 0..events {
        let payload = workload::event(index, epoch_ms);
        let entity = workload::entity(index);
        let key = entity.to_string();
        bytes += payload.len() as u64;
        let partition = i32::try_from(entity).unwrap() % PARTITIONS;
        let record = BaseRecord::to(EVENTS_TOPIC).partition(partition).timestamp(workload::time_ms(index, epoch_ms));
        send(&producer, record.key(key.as_bytes()).payload(payload.as_bytes()));
    }
    flush(&producer, &delivered, events);
    bytes / events
}

/// One thread that consumes every event and produces the same bytes to `topic`, until the broker has acknowledged all.
pub(crate) fn relay(brokers: &str, topic: &str, events: u64) -> Measured {
    let mut config = ClientConfig::new();
    for (key, value) in [
        ("bootstrap.servers", brokers),
        ("group.id", topic),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("fetch.wait.max.ms", "50"),
        ("queued.max.messages.kbytes", "65536"),
    ] {
        config.set(key, value);
    }
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(EVENTS_TOPIC, partition, Offset::Beginning).unwrap();
    }
    let (producer, delivered) = producer(brokers);
    // The first look at a topic is not what is measured.
    producer.client().fetch_metadata(Some(topic), PATIENCE).unwrap();
    let me = std::process::id();
    let cpu = process::cpu_seconds(me);
    consumer.assign(&list).unwrap();
    let mut begin = None;
    for _ in 0..events {
        let message = consumer.poll(PATIENCE).expect("an event").unwrap();
        begin.get_or_insert_with(Instant::now);
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).timestamp(message.timestamp().to_millis().unwrap_or(0));
        record.key = message.key();
        record.payload = message.payload();
        send(&producer, record);
    }
    flush(&producer, &delivered, events);
    let seconds = begin.expect("at least one event").elapsed().as_secs_f64();
    let cpu = process::cpu_seconds(me) - cpu;
    Measured { rate: events as f64 / seconds, cpu_seconds: cpu / (events as f64 / 1e6), peak_mib: None }
}
