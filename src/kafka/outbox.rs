//! The outbox: one idempotent producer with `acks=all`, and tickets that say when all that was sent so far has arrived.

use super::client::{Client, log_line};
use anyhow::{Context, bail};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Tickets of one sender that may be open at once, the one being filled included.
const EPOCHS: usize = 4;
const LANES_MAX: usize = 64;
const GIVEN_UP: &str = "stopped before Kafka had acknowledged everything; the next start repeats it";
/// How long a wait sleeps before it looks again whether the service stops.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

struct Deliveries {
    /// Records on their way, by lane and epoch.
    outstanding: Vec<[AtomicUsize; EPOCHS]>,
    lanes: AtomicUsize,
    failure: Mutex<Option<String>>,
    failed: AtomicBool,
    arrived: (Mutex<()>, Condvar),
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        if let Err((error, message)) = result {
            use rdkafka::Message;
            self.fail(format!("a record for topic {:?} was not delivered: {error}", message.topic()));
        }
        let counter = &self.outstanding[opaque / EPOCHS][opaque % EPOCHS];
        if counter.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _guard = self.arrived.0.lock().unwrap_or_else(PoisonError::into_inner);
            self.arrived.1.notify_all();
        }
    }
}

impl Deliveries {
    fn fail(&self, what: String) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(what);
        self.failed.store(true, Ordering::Release);
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.failed.load(Ordering::Acquire) {
            let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            bail!("{}", failure.as_deref().unwrap_or("a record was not delivered"));
        }
        Ok(())
    }

    fn wait(&self) {
        let guard = self.arrived.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The condition is checked by the caller, who comes back here; a missed notice costs one short wait.
        drop(self.arrived.1.wait_timeout(guard, LOOK_AGAIN));
    }
}

/// The producer of a service.
pub struct Outbox {
    producer: ThreadedProducer<Deliveries>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("in_flight", &self.producer.in_flight_count()).finish()
    }
}

/// One record to send.
#[derive(Debug)]
pub struct Produced<'a> {
    pub topic: &'a str,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
    /// Milliseconds since the Unix epoch; a repeated record carries the same time as the first. Negative: that of sending.
    pub timestamp_ms: i64,
    pub headers: Option<OwnedHeaders>,
}

impl Outbox {
    /// Nobody waits for Kafka any more: whoever sends, or waits for what was sent, fails.
    pub fn give_up(&self) {
        self.producer.context().fail(GIVEN_UP.to_owned());
    }

    /// Whether sending failed because the record is larger than librdkafka sends (`message.max.bytes`): the next may be smaller.
    #[must_use]
    pub fn refuses_its_size(error: &anyhow::Error) -> bool {
        let too_large = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
        error.downcast_ref::<KafkaError>() == Some(&too_large)
    }

    /// # Errors
    /// When librdkafka refuses an option.
    pub fn open(client: &Client) -> anyhow::Result<Arc<Self>> {
        let deliveries = Deliveries {
            outstanding: (0..LANES_MAX).map(|_| Default::default()).collect(),
            lanes: AtomicUsize::new(0),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            arrived: (Mutex::new(()), Condvar::new()),
        };
        let mut config = client.config("outbox");
        // librdkafka retries for ever: a broker that is away halts the partitions, it loses nothing.
        for (key, value) in [("enable.idempotence", "true"), ("acks", "all"), ("message.timeout.ms", "0")] {
            config.set(key, value);
        }
        // As Java producers do it; librdkafka's default scatters empty keys at random, so that a repeated record could land elsewhere.
        config.set("partitioner", "murmur2");
        // Every batch wakes librdkafka's thread up. Measured in the end-to-end bench on a busy machine, CPU seconds of that thread per million
        // events: 3.0 to 7.1 with 10 ms, 2.0 to 2.9 with 50, 1.6 to 2.3 with 100.
        for (key, value) in
            [("linger.ms", "50"), ("queue.buffering.max.messages", "200000"), ("queue.buffering.max.kbytes", "262144")]
        {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        let producer = config.create_with_context(deliveries).context("the Kafka producer was refused")?;
        Ok(Arc::new(Self { producer }))
    }

    /// A sender with tickets of its own.
    #[must_use]
    pub fn sender(self: &Arc<Self>) -> Sender {
        let lane = self.producer.context().lanes.fetch_add(1, Ordering::Relaxed);
        assert!(lane < LANES_MAX, "a service has far fewer senders than {LANES_MAX}");
        Sender { outbox: self.clone(), lane, epoch: 0 }
    }
}

/// Sends in order, and closes tickets.
#[derive(Debug)]
pub struct Sender {
    outbox: Arc<Outbox>,
    lane: usize,
    epoch: usize,
}

impl Sender {
    /// Hands a record to librdkafka; waits while its queue is full.
    ///
    /// # Errors
    /// When this record can never be sent (too large, no such topic), or an earlier one was not delivered.
    pub fn send(&self, produced: Produced<'_>) -> anyhow::Result<()> {
        let deliveries = self.outbox.producer.context().as_ref();
        deliveries.check()?;
        let mut record =
            BaseRecord::<[u8], [u8], usize>::with_opaque_to(produced.topic, self.lane * EPOCHS + self.epoch)
                // 0 is the time of sending for librdkafka.
                .timestamp(produced.timestamp_ms.max(0));
        record.key = produced.key;
        record.payload = produced.payload;
        record.headers = produced.headers;
        let counter = &deliveries.outstanding[self.lane][self.epoch];
        counter.fetch_add(1, Ordering::AcqRel);
        loop {
            match self.outbox.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    deliveries.wait();
                    deliveries.check()?;
                }
                Err((error, _)) => {
                    counter.fetch_sub(1, Ordering::AcqRel);
                    return Err(error).with_context(|| format!("cannot send to topic {:?}", produced.topic));
                }
            }
        }
    }

    /// A ticket for everything sent since the last one.
    #[must_use]
    pub fn close(&mut self) -> Ticket {
        let ticket = Ticket { outbox: self.outbox.clone(), lane: self.lane, epoch: self.epoch };
        self.epoch = (self.epoch + 1) % EPOCHS;
        // Callers keep at most two tickets open; if one ever keeps more, it waits here instead of mixing them up.
        let deliveries = self.outbox.producer.context();
        while deliveries.outstanding[self.lane][self.epoch].load(Ordering::Acquire) > 0 && deliveries.check().is_ok() {
            deliveries.wait();
        }
        ticket
    }
}

/// Stands for all that one sender sent up to a moment.
#[derive(Debug)]
pub struct Ticket {
    outbox: Arc<Outbox>,
    lane: usize,
    epoch: usize,
}

impl Ticket {
    /// Returns once Kafka has acknowledged every record.
    ///
    /// # Errors
    /// When one was not delivered, or `given_up` says that nobody waits any more.
    pub fn wait(&self, given_up: impl Fn() -> bool) -> anyhow::Result<()> {
        let deliveries = self.outbox.producer.context();
        while deliveries.outstanding[self.lane][self.epoch].load(Ordering::Acquire) > 0 {
            deliveries.check()?;
            if given_up() {
                bail!(GIVEN_UP);
            }
            deliveries.wait();
        }
        deliveries.check()
    }
}
