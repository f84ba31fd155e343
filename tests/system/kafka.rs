//! One Apache Kafka broker in KRaft mode on free loopback ports with its own data folder, and plain clients for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::process::{free_port, log_tail, signal, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

/// A broker process. Dropping it kills the process and removes its data.
pub(crate) struct Broker {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Broker {
    pub(crate) fn start() -> Broker {
        let mut broker = Broker { folder: tempfile::tempdir().unwrap(), port: free_port(), child: None };
        let properties = broker.properties();
        std::fs::write(broker.path("server.properties"), properties).unwrap();
        let formatted =
            broker.java("256m", "kafka.tools.StorageTool", &["format", "-t", "bGFydW0tc3lzdGVtLXRlcw", "-c"]);
        let output = { formatted }.output().unwrap();
        assert!(output.status.success(), "formatting the broker's folder: {output:?}");
        broker.resume();
        broker
    }

    fn properties(&self) -> String {
        let (client, controller, folder) = (self.port, free_port(), self.path("data").display().to_string());
        format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{client}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             controller.listener.names=CONTROLLER\n\
             log.dirs={folder}\n\
             log.retention.ms=-1\n\
             auto.create.topics.enable=false\n\
             offsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=3\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n\
             group.min.session.timeout.ms=1000\n\
             broker.session.timeout.ms=3000\n\
             broker.heartbeat.interval.ms=500\n"
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn java(&self, heap: &str, class: &str, arguments: &[&str]) -> Command {
        let libs = std::env::var_os("LARUM_KAFKA_LIBS").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/kafka/libs")),
            PathBuf::from,
        );
        assert!(libs.is_dir(), "no Kafka in {}: run `tests/system/run`, which fetches it", libs.display());
        let mut command = Command::new("java");
        command
            .arg(format!("-Xmx{heap}"))
            .args(["-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
            .arg("-cp")
            .arg(libs.join("*"))
            .arg(class)
            .args(arguments);
        command.arg(self.path("server.properties")).stdin(Stdio::null());
        command
    }

    /// Starts the process on the data that is there, and waits until it answers.
    pub(crate) fn resume(&mut self) {
        assert!(self.child.is_none(), "the broker runs already");
        let log = File::options().create(true).append(true).open(self.path("broker.log")).unwrap();
        let mut command = self.java("1g", "kafka.Kafka", &[]);
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.child =
            Some(child.expect("java: not found; install it (Debian: apt-get install openjdk-17-jdk-headless)"));
        let probe: BaseConsumer = self.client().create().unwrap();
        wait_for("the broker's first answer", PATIENCE, || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the broker ended at once: {ended:?}");
            probe.fetch_metadata(None, Duration::from_secs(1)).ok()
        });
    }

    /// An orderly stop (SIGTERM).
    pub(crate) fn stop(&mut self) {
        self.end("TERM");
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.end("KILL");
    }

    fn end(&mut self, how: &str) {
        let mut child = self.child.take().expect("the broker does not run");
        signal(&child, how);
        wait_for("the broker's end", PATIENCE, || child.try_wait().unwrap());
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address()).set("log_level", "2");
        config
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let admin = self.admin();
        let results = block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
        assert!(results.iter().all(Result::is_ok), "creating {name}: {results:?}");
        wait_for("the new topic's partitions", PATIENCE, || (self.partitions(name) == partitions).then_some(()));
    }

    /// Grows a topic to `total` partitions.
    pub(crate) fn grow_topic(&self, name: &str, total: i32) {
        let count = usize::try_from(total).unwrap();
        let admin = self.admin();
        let grown = NewPartitions::new(name, count);
        let results = block_on(admin.create_partitions([&grown], &AdminOptions::new())).unwrap();
        assert!(results.iter().all(Result::is_ok), "growing {name}: {results:?}");
        wait_for("the grown topic's partitions", PATIENCE, || (self.partitions(name) == total).then_some(()));
    }

    /// Deletes the records of partition 0 before this offset.
    pub(crate) fn delete_records(&self, topic: &str, before: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, 0, Offset::Offset(before)).unwrap();
        block_on(self.admin().delete_records(&offsets, &AdminOptions::new())).unwrap();
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// How many partitions a topic has; 0 when there is none of that name.
    pub(crate) fn partitions(&self, topic: &str) -> i32 {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        metadata.topics().iter().map(|topic| i32::try_from(topic.partitions().len()).unwrap()).sum()
    }

    /// The offset after the last record of each partition.
    pub(crate) fn ends(&self, topic: &str) -> BTreeMap<i32, i64> {
        let consumer: BaseConsumer = self.client().create().unwrap();
        (0..self.partitions(topic))
            .map(|partition| (partition, consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap().1))
            .collect()
    }

    /// The offsets a group has committed, where it has.
    pub(crate) fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        let consumer: BaseConsumer = self.client().set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions(topic) {
            list.add_partition(topic, partition);
        }
        let committed = consumer.committed_offsets(list, PATIENCE).unwrap();
        let offset = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        };
        committed.elements().iter().filter_map(offset).collect()
    }

    /// A producer with `acks=all` that keeps each partition's order.
    pub(crate) fn producer(&self) -> Sender {
        let delivered = Arc::new(AtomicU64::new(0));
        let mut config = self.client();
        config.set("enable.idempotence", "true").set("linger.ms", "5").set("queue.buffering.max.messages", "200000");
        let inner = config.create_with_context(Deliveries(Arc::clone(&delivered))).unwrap();
        Sender { inner, delivered, sent: 0 }
    }

    /// Hands every record that the topic holds now to `each`, partition by partition in offset order.
    pub(crate) fn read(&self, topic: &str, mut each: impl FnMut(Received)) {
        let mut config = self.client();
        config.set("group.id", "reader").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        let mut open = self.partitions(topic);
        assert!(open > 0, "there is no topic {topic}");
        for partition in 0..open {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        while open > 0 {
            match consumer.poll(PATIENCE).expect("a record or the end of a partition") {
                Ok(message) => each(Received::from(&message)),
                Err(KafkaError::PartitionEOF(_)) => open -= 1,
                Err(error) => panic!("reading {topic}: {error}"),
            }
        }
    }

    pub(crate) fn read_all(&self, topic: &str) -> Vec<Received> {
        let mut all = Vec::new();
        self.read(topic, |record| all.push(record));
        all
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("{}", log_tail(&self.path("broker.log")));
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A record to send: `timestamp` in milliseconds since the epoch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    pub(crate) partition: i32,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Received {
    fn from(message: &BorrowedMessage<'_>) -> Received {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Received {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }

    /// The first header of this name, as text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let value = &self.headers.iter().find(|header| header.0 == name)?.1;
        value.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let payload = self.payload.as_deref().expect("a record with a payload");
        serde_json::from_slice(payload).expect("a record that is JSON")
    }
}

/// Sends records and counts what the broker has acknowledged.
pub(crate) struct Sender {
    inner: BaseProducer<Deliveries>,
    delivered: Arc<AtomicU64>,
    sent: u64,
}

impl Sender {
    pub(crate) fn send(&mut self, topic: &str, record: &Sent) {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_ref() }));
        let mut out = BaseRecord::<[u8], [u8]>::to(topic).partition(record.partition).timestamp(record.timestamp);
        out.key = record.key.as_deref();
        out.payload = record.payload.as_deref();
        if !record.headers.is_empty() {
            out = out.headers(headers);
        }
        self.sent += 1;
        loop {
            match self.inner.send(out) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.inner.poll(Duration::from_millis(20));
                    out = back;
                }
                Err((error, _)) => panic!("sending to {topic}: {error}"),
            }
        }
        self.inner.poll(Duration::ZERO);
    }

    /// Waits until the broker has acknowledged every record.
    pub(crate) fn flush(&self) {
        self.inner.flush(PATIENCE).unwrap();
        assert_eq!(self.delivered.load(Ordering::SeqCst), self.sent, "records that the broker acknowledged");
    }
}

struct Deliveries(Arc<AtomicU64>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        match result {
            Ok(_) => drop(self.0.fetch_add(1, Ordering::SeqCst)),
            Err((error, _)) => eprintln!("a record was not delivered: {error}"),
        }
    }
}

/// The other tests rest on this: records come back as they were sent, also from a broker that was killed in between.
#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn the_broker_gives_back_what_it_was_sent() {
    let mut broker = Broker::start();
    broker.create_topic("mirror", 2);
    let mut sender = broker.producer();
    let records: Vec<Sent> = (0..1_000)
        .map(|index| match index % 100 {
            7 => Sent { timestamp: crate::traffic::time_ms(index), ..Sent::default() },
            _ => crate::traffic::record(index, 2),
        })
        .collect();
    records.iter().for_each(|record| sender.send("mirror", record));
    sender.flush();
    broker.kill();
    broker.resume();
    broker.grow_topic("mirror", 3);

    let mut back = broker.read_all("mirror");
    back.sort_by_key(|record| (record.partition, record.offset));
    let mut sent = records;
    sent.sort_by_key(|record| record.partition);
    let plain = |partition, key: &_, payload: &_, headers: &_| format!("{partition} {key:?} {payload:?} {headers:?}");
    let sent: Vec<_> = sent.iter().map(|r| plain(r.partition, &r.key, &r.payload, &r.headers)).collect();
    let back: Vec<_> = back.iter().map(|r| plain(r.partition, &r.key, &r.payload, &r.headers)).collect();
    assert_eq!(sent, back);
    let ends = broker.ends("mirror");
    assert_eq!((ends.len(), ends.values().sum::<i64>()), (3, 1_000));
    assert!(broker.committed("nobody", "mirror").is_empty());
}
