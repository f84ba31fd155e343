//! The service under test: its configuration, its process, its HTTP API.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::kafka::Broker;
use crate::process::{self, free_port, log_tail, signal, wait_for};
use crate::{store, traffic};

/// What a configuration of these tests may vary.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Names the consumer group and the output topics.
    pub(crate) name: String,
    /// The topic to read.
    pub(crate) events: String,
    pub(crate) start: String,
    /// The kinds of the models, which are also their names.
    pub(crate) models: Vec<&'static str>,
    pub(crate) event: &'static str,
    pub(crate) fields: &'static str,
    pub(crate) sql: &'static str,
}

impl Options {
    /// The synthetic requests from the first one on, scored by a model that needs no labels.
    pub(crate) fn requests(name: &str) -> Options {
        Options {
            name: name.to_owned(),
            events: "requests".to_owned(),
            start: "earliest".to_owned(),
            models: vec!["linear_regression"],
            event: "id = \"request_id\"\ntime = \"ts\"\nentity = \"host\"",
            fields: traffic::FIELDS,
            sql: traffic::SQL,
        }
    }

    pub(crate) fn with_label_learners(mut self) -> Options {
        self.models = vec!["linear_regression", "logistic_regression", "svm"];
        self
    }
}

/// A folder with a configuration and a store; the service can run there any number of times.
pub(crate) struct Deployment {
    pub(crate) options: Options,
    folder: tempfile::TempDir,
    port: u16,
}

impl Deployment {
    pub(crate) fn new(broker: &Broker, options: Options) -> Deployment {
        let deployment = Deployment { options, folder: tempfile::tempdir().unwrap(), port: free_port() };
        std::fs::write(deployment.path("larum.toml"), deployment.toml(&broker.address())).unwrap();
        deployment
    }

    /// Short times, so that within seconds a killed member has left its group, new partitions are seen, and there is a snapshot that
    /// is older than the last commit.
    fn toml(&self, brokers: &str) -> String {
        let Options { name, events, start, models, event, fields, sql } = &self.options;
        let models: String =
            models.iter().map(|kind| format!("[[models]]\nname = \"{kind}\"\nkind = \"{kind}\"\n")).collect();
        format!(
            "[kafka]\nbrokers = \"{brokers}\"\ngroup = \"{name}\"\nevents = \"{events}\"\nstart = \"{start}\"\n\
             predictions = \"{name}.scored\"\nlabels = \"{name}.labels\"\nlabel_log = \"{name}.label-log\"\n\
             dead_letters = \"{name}.dlq\"\n\
             [kafka.client]\n\"session.timeout.ms\" = \"3000\"\n\"heartbeat.interval.ms\" = \"500\"\n\
             \"topic.metadata.refresh.interval.ms\" = \"1000\"\n\
             [event]\n{event}\n[event.fields]\n{fields}\
             [features]\nsql = \"\"\"\n{sql}\"\"\"\n{models}\
             [decision]\nfalse_alarm_rate = 0.01\n\
             [store]\nurl = \"sqlite:{}\"\nretention = \"365d\"\nlabel_horizon = \"365d\"\n\
             [api]\nlisten = \"127.0.0.1:{}\"\n\
             [limits]\nevent_bytes = {}\nsnapshot_ms = 3000\n",
            self.store().display(),
            self.port,
            EVENT_BYTES_MAX,
        )
    }

    pub(crate) fn topic(&self, which: &str) -> String {
        format!("{}.{which}", self.options.name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("larum.db")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of larum, to be run beside the configuration.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binary());
        command.arg(name).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Starts the service and waits until it says that it is ready.
    pub(crate) fn start(&self) -> Service {
        let log = self.path("larum.log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(binary());
        command.arg("run").arg("-c").arg(self.path("larum.toml")).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap();
        let mut service = Service { child, log, base: format!("http://127.0.0.1:{}", self.port), store: self.store() };
        wait_for("the service's readiness", Duration::from_secs(60), || {
            service.must_run();
            service.get("/readyz").filter(|answer| answer.0 == 200)
        });
        service
    }

    /// Runs the service until it has scored all that the topic holds, then stops it.
    pub(crate) fn run_through(&self, broker: &Broker) {
        let mut service = self.start();
        service.wait_through(broker, &self.options.events);
        service.stop();
    }
}

/// `[limits] event_bytes` of every deployment.
pub(crate) const EVENT_BYTES_MAX: usize = 16_384;

fn binary() -> PathBuf {
    std::env::var_os("LARUM_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_larum")), PathBuf::from)
}

/// A running service. Dropping it kills the process.
pub(crate) struct Service {
    child: Child,
    log: PathBuf,
    base: String,
    store: PathBuf,
}

impl Service {
    /// Fails with the log when the process has ended by itself.
    pub(crate) fn must_run(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the service ended by itself: {ended:?}");
    }

    /// Waits until the store says that every record the topic holds now has been dealt with.
    pub(crate) fn wait_through(&mut self, broker: &Broker, topic: &str) {
        let ends = broker.ends(topic);
        self.wait_until(
            "the service to score all there is",
            |reached| ends.iter().all(|(partition, end)| *end == 0 || reached.get(partition) >= Some(end)),
            topic,
        );
    }

    /// Waits until so many records of the topic, over all partitions, have been dealt with.
    pub(crate) fn wait_records(&mut self, topic: &str, records: i64) {
        self.wait_until("the service to get on", |reached| reached.values().sum::<i64>() >= records, topic);
    }

    fn wait_until(&mut self, what: &str, done: impl Fn(&std::collections::BTreeMap<i32, i64>) -> bool, topic: &str) {
        let store = self.store.clone();
        wait_for(what, Duration::from_secs(if cfg!(debug_assertions) { 600 } else { 240 }), || {
            self.must_run();
            done(&store::scored_through(&store, topic)).then_some(())
        });
    }

    /// SIGTERM: an orderly stop, which must succeed within seconds.
    pub(crate) fn stop(mut self) {
        assert_eq!(self.end("TERM").code(), Some(0), "the exit code after SIGTERM");
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        assert_eq!(self.end("KILL").code(), None, "the exit code after SIGKILL");
    }

    /// SIGTERM when it cannot finish: it must give up by itself, and say so.
    pub(crate) fn give_up(mut self) {
        self.signal("TERM");
        let status = wait_for("the service to give up", Duration::from_secs(60), || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(1), "the exit code of a stop that could not commit");
    }

    fn end(&mut self, how: &str) -> ExitStatus {
        self.signal(how);
        wait_for("the service's end", Duration::from_secs(20), || self.child.try_wait().unwrap())
    }

    pub(crate) fn signal(&mut self, name: &str) {
        self.must_run();
        signal(&self.child, name);
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        process::resident_kib(self.child.id())
    }

    pub(crate) fn url(&self) -> String {
        self.base.clone()
    }

    /// Status and body; none where nobody answers.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut answer = agent().get(format!("{}{path}", self.base)).call().ok()?;
        Some((answer.status().as_u16(), answer.body_mut().read_to_string().unwrap()))
    }

    pub(crate) fn get_json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.get(path).expect("an answer");
        assert_eq!(status, 200, "GET {path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(crate) fn post(&self, path: &str, content_type: &str, body: &str) -> (u16, String) {
        let request = agent().post(format!("{}{path}", self.base)).header("content-type", content_type);
        let mut answer = request.send(body).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("{}", log_tail(Path::new(&self.log)));
        }
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    config.timeout_global(Some(Duration::from_secs(10))).build().into()
}
