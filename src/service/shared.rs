//! What the threads of a service share: read-mostly state, the way to stop, and the inboxes.

use super::tasks::Tasks;
use super::training::{Ask, ModelVersion};
use super::worker::Message;
use crate::config::Config;
use crate::engine::{Blueprint, Prediction};
use crate::event::Rejection;
use crate::features::FeatureVector;
use crate::kafka::{Handover, Outbox, Position};
use crate::learn::{Examples, Globals};
use crate::model::Progress;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::wire::Names;
use anyhow::{anyhow, bail};
use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, after, bounded};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a stop waits for Kafka and the store before it gives up; the next start repeats what was not committed.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// A commit takes milliseconds. One that takes longer than this waits for a broker or a disk that is away.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);
/// How often a thread that waits asks whether it has waited long enough.
const STOP_STEP: Duration = Duration::from_millis(500);
/// Questions to the trainer that wait; whoever finds it full waits, too.
const ASKS_MAX: usize = 16;

/// What `/v1/predict` asks of the owner of an entity.
#[derive(Debug, Clone)]
pub enum Query {
    /// A raw event, as it would come from Kafka.
    Event(Vec<u8>),
    Features(FeatureVector),
}

/// The answer of one owner.
#[derive(Debug)]
pub struct Predicted {
    pub partition: i32,
    /// The offset that saw the entity last; `None` where this owner does not know it.
    pub last_seen: Option<i64>,
    /// `None`: the query's WHERE leaves the event out.
    pub prediction: Result<Option<Prediction>, Rejection>,
}

/// One assigned partition, for people.
#[derive(Debug, Clone)]
pub struct Described {
    pub partition: i32,
    /// Scored through.
    pub offset: i64,
    /// The version of the label learners that it scores with.
    pub model_version: i64,
    /// Whether each adopted label learner votes, in configuration order.
    pub learners_voting: Vec<bool>,
    /// The partition's own detectors, in configuration order.
    pub detectors: Vec<DescribedDetector>,
}

/// A model that learns from every event, in one partition.
#[derive(Debug, Clone)]
pub struct DescribedDetector {
    pub progress: Progress,
    pub parameters: Vec<(String, f64)>,
}

/// What readiness and the page ask.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Assigned partitions with the offset scored through.
    pub partitions: BTreeMap<i32, i64>,
    /// The label log has been folded up to where it ended at the start.
    pub trained: bool,
    pub assigned_once: bool,
}

/// Shared by all threads and the API.
pub struct Shared {
    pub config: Config,
    pub blueprint: Arc<Blueprint>,
    pub names: Names,
    pub store: Store,
    pub outbox: Arc<Outbox>,
    pub metrics: Metrics,
    /// The newest global models: what a partition may adopt at its next commit.
    pub globals: ArcSwap<Globals>,
    /// The versions that a partition has adopted since its last snapshot, which recovery may ask for.
    pub(super) adopted: Mutex<BTreeMap<i32, Vec<Arc<Globals>>>>,
    /// The highest row that the trainer has folded of each upload.
    pub(super) uploads: Mutex<BTreeMap<Arc<str>, i64>>,
    /// Long work that somebody asked for.
    pub tasks: Tasks,
    asks: (Sender<Ask>, Receiver<Ask>),
    pub(super) inboxes: Vec<Sender<Message>>,
    pub(super) committed: Mutex<BTreeMap<i32, i64>>,
    /// When the commit that is under way began.
    pub(super) commit_began: Mutex<Option<Instant>>,
    pub(super) topic: Arc<str>,
    /// No partition is known yet: the first assignment begins at the configured start.
    pub(super) first_start: AtomicBool,
    pub(super) status: Mutex<Status>,
    pub(super) stop: Arc<AtomicBool>,
    stop_deadline: OnceLock<Receiver<Instant>>,
    failure: Mutex<Option<anyhow::Error>>,
    stopped: (Sender<()>, Receiver<()>),
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("topic", &self.topic).finish_non_exhaustive()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    #[allow(clippy::too_many_arguments, reason = "called once, with everything that start-up has opened")]
    pub(super) fn new(
        config: Config,
        blueprint: Arc<Blueprint>,
        names: Names,
        store: Store,
        outbox: Arc<Outbox>,
        metrics: Metrics,
        globals: Globals,
        inboxes: Vec<Sender<Message>>,
        first_start: bool,
    ) -> Self {
        Self {
            topic: config.kafka.events.as_str().into(),
            config,
            blueprint,
            names,
            store,
            outbox,
            metrics,
            globals: ArcSwap::from_pointee(globals),
            adopted: Mutex::default(),
            uploads: Mutex::default(),
            tasks: Tasks::new(crate::telemetry::now_ms()),
            asks: bounded(ASKS_MAX),
            inboxes,
            committed: Mutex::default(),
            commit_began: Mutex::default(),
            first_start: AtomicBool::new(first_start),
            status: Mutex::default(),
            stop: Arc::default(),
            stop_deadline: OnceLock::new(),
            failure: Mutex::default(),
            stopped: crossbeam_channel::bounded(1),
        }
    }

    #[must_use]
    pub fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    /// How long the commit that is under way has waited for Kafka and the store, if that is longer than one should take.
    #[must_use]
    pub fn late_commit(&self) -> Option<Duration> {
        lock(&self.commit_began).map(|began| began.elapsed()).filter(|waited| *waited > COMMIT_PATIENCE)
    }

    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Asks every thread to finish.
    pub fn stop(&self) {
        self.stop_deadline.get_or_init(|| after(STOP_PATIENCE));
        self.stop.store(true, Ordering::Release);
        self.tasks.stop();
        // Full means that somebody has asked already.
        self.stopped.0.try_send(()).ok();
    }

    /// Blocks until somebody asks to stop.
    pub fn wait_for_stop(&self) {
        self.stopped.1.recv().ok();
    }

    pub(super) fn fail(&self, thread: &str, error: anyhow::Error) {
        tracing::error!(thread, error = format!("{error:#}"), "stopping: this cannot go on");
        lock(&self.failure).get_or_insert(error.context(format!("the {thread} stopped")));
        self.stop();
    }

    pub(super) fn take_failure(&self) -> Option<anyhow::Error> {
        lock(&self.failure).take()
    }

    pub(super) fn failed(&self) -> bool {
        lock(&self.failure).is_some()
    }

    /// True once a stop has waited long enough.
    #[must_use]
    pub fn given_up(&self) -> bool {
        self.stop_deadline.get().is_some_and(|deadline| !deadline.is_empty())
    }

    /// Waits until the committer has stored what it was asked to.
    ///
    /// # Errors
    /// When the committer has stopped, or a stop has waited long enough: a request may still lie in its queue when it ends.
    pub(super) fn wait_stored(&self, done: &Receiver<()>) -> anyhow::Result<()> {
        loop {
            match done.recv_timeout(STOP_STEP) {
                Ok(()) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => bail!("the committer has stopped"),
                Err(RecvTimeoutError::Timeout) if self.given_up() => {
                    bail!("the last commit did not end in time; the next start repeats it")
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Asks every owner about these events; the answers come one list per owner, empty where it owns no partition.
    ///
    /// # Errors
    /// When the owners do not answer in time, or the service is stopping.
    pub fn predict(&self, queries: &Arc<Vec<Query>>, timeout: Duration) -> anyhow::Result<Vec<Vec<Predicted>>> {
        self.ask(timeout, |answer| Message::Predict { queries: queries.clone(), answer })
    }

    /// How far every assigned partition is; one list per owner.
    ///
    /// # Errors
    /// When the owners do not answer in time, or the service is stopping.
    pub fn describe(&self, timeout: Duration) -> anyhow::Result<Vec<Vec<Described>>> {
        self.ask(timeout, |answer| Message::Describe { answer })
    }

    /// The labelled events and samples that a refit is fitted to.
    ///
    /// # Errors
    /// When the trainer does not answer in time, or the service is stopping.
    pub(super) fn examples(&self, timeout: Duration) -> anyhow::Result<Examples> {
        self.ask_trainer(timeout, |answer| Ask::Examples { answer })
    }

    /// The versions of each model that learns from labels, in configuration order, the oldest version first.
    ///
    /// # Errors
    /// When the trainer does not answer in time, or the service is stopping.
    pub fn versions(&self, timeout: Duration) -> anyhow::Result<Vec<Vec<ModelVersion>>> {
        self.ask_trainer(timeout, |answer| Ask::Versions { answer })
    }

    /// What the trainer's thread has been asked and not yet answered.
    pub(super) fn asked(&self) -> &Receiver<Ask> {
        &self.asks.1
    }

    fn ask_trainer<T>(&self, timeout: Duration, ask: impl FnOnce(Sender<T>) -> Ask) -> anyhow::Result<T> {
        let (sender, answer) = bounded(1);
        let deadline = after(timeout);
        crossbeam_channel::select! {
            send(self.asks.0, ask(sender)) -> sent => sent.map_err(|_| anyhow!("the service is stopping"))?,
            recv(deadline) -> _ => bail!("the trainer is busy; try again"),
        }
        // The trainer may end without a word: its questions live on here.
        let timer = crate::telemetry::stopwatch();
        while timer.elapsed() < timeout {
            match answer.recv_timeout(STOP_STEP.min(timeout)) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) if !self.stopping() => {}
                Err(_) => bail!("the service is stopping"),
            }
        }
        bail!("the trainer is busy; try again")
    }

    fn ask<T>(&self, timeout: Duration, message: impl Fn(Sender<T>) -> Message) -> anyhow::Result<Vec<T>> {
        let (sender, answers) = crossbeam_channel::bounded(self.inboxes.len());
        let deadline = after(timeout);
        for inbox in &self.inboxes {
            crossbeam_channel::select! {
                send(inbox, message(sender.clone())) -> sent => sent.map_err(|_| anyhow!("the service is stopping"))?,
                recv(deadline) -> _ => return Err(anyhow!("scoring is busy; try again")),
            }
        }
        drop(sender);
        let mut all = Vec::new();
        for _ in &self.inboxes {
            crossbeam_channel::select! {
                recv(answers) -> answer => all.push(answer.map_err(|_| anyhow!("the service is stopping"))?),
                recv(deadline) -> _ => return Err(anyhow!("scoring is busy; try again")),
            }
        }
        Ok(all)
    }

    /// The version that a partition named in the store, if the start or an adoption has kept it.
    pub(super) fn version(&self, partition: i32, version: i64) -> anyhow::Result<Arc<Globals>> {
        lock(&self.adopted)
            .get(&partition)
            .and_then(|versions| versions.iter().find(|globals| globals.version == version))
            .cloned()
            .ok_or_else(|| anyhow!("the label log has no version {version}, which partition {partition} scored with: was topic {:?} made anew?", self.config.kafka.label_log))
    }
}

impl Handover for Shared {
    type Message = Message;

    fn position(&self, partition: i32) -> anyhow::Result<Position> {
        use crate::config::Start;
        let plan_hash = self.blueprint.state_hash();
        let reached = self.store.read(|reader| reader.position(&self.topic, partition, plan_hash))?;
        Ok(match (reached, self.first_start.load(Ordering::Acquire), self.config.kafka.start) {
            (Some(offset), ..) => Position::Offset(offset),
            (None, true, Start::Latest) => Position::End,
            (None, true, Start::Time(time_ms)) => Position::Time(time_ms),
            // A partition that was added later is read from its beginning: nothing of it has been seen.
            (None, ..) => Position::Beginning,
        })
    }

    fn positioned(&self) {
        self.first_start.store(false, Ordering::Release);
    }

    fn owner(&self, partition: i32) -> usize {
        usize::try_from(partition).unwrap_or(0) % self.inboxes.len()
    }

    fn inboxes(&self) -> &[Sender<Message>] {
        &self.inboxes
    }

    fn inbox_full(&self) {
        self.metrics.limit("queue_events", 1);
    }

    fn lost(&self, partition: i32, records: i64) {
        self.metrics.lost(partition, records.unsigned_abs());
    }

    fn committed(&self) -> BTreeMap<i32, i64> {
        std::mem::take(&mut *lock(&self.committed))
    }
}
