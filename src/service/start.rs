//! Starting and stopping: what is opened in which order, and how the threads end.

use super::committer;
use super::joiner::Joiner;
use super::shared::Shared;
use super::topics::ensure_topics;
use super::training::Folding;
use super::worker::{Message, Worker};
use crate::config::Config;
use crate::engine::Blueprint;
use crate::features::ColumnKind;
use crate::kafka::{Client, LogReader, Outbox, Source};
use crate::learn::{Trainer, TrainerLimits};
use crate::store::{self, Layout, Store};
use crate::telemetry::Metrics;
use crate::wire::{LabelLogReader, Names};
use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, after, bounded};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Batches that wait in front of a worker, at most. With the batch size this bounds the hand-over.
const BATCHES_PER_QUEUE: usize = 512;

/// How long a stop waits for a task: one that sends ends within seconds; one that fits looks only between its steps, and nothing of it is lost.
const TASK_PATIENCE: Duration = Duration::from_secs(5);

/// How often a stop looks whether a thread has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A running service.
#[derive(Debug)]
pub struct Service {
    shared: Arc<Shared>,
    source: JoinHandle<()>,
    /// Closed once everything is committed, so that the source tells the group and leaves it.
    committed: Sender<()>,
    workers: Vec<JoinHandle<()>>,
    /// The joiner, the trainer and the committer, which end after the workers.
    others: Vec<JoinHandle<()>>,
    tasks: JoinHandle<()>,
}

impl Service {
    /// Opens the store and the topics, folds the label log, and starts reading events.
    ///
    /// # Errors
    /// When anything is not as configured; the message says what to do.
    pub fn start(config: Config, blueprint: Arc<Blueprint>) -> anyhow::Result<Self> {
        let client = Client::new(&config.kafka.brokers, &config.kafka.client);
        let names = Names::of(&blueprint);
        ensure_topics(&client, &config)?;
        let (store, writer) = open_store(&config, &names)?;

        let trainer = Trainer::new(&blueprint.models, &names.columns, TrainerLimits::default())?;
        let mut label_log = LogReader::open(&client, &config.kafka.label_log, &BTreeMap::new())?;
        let wanted = store.read(|reader| reader.adopted_versions(&config.kafka.events))?;
        let mut folding = Folding::new(trainer, LabelLogReader::new(names.clone()), config.learning.refit);
        let adopted = folding.fold_to_end(&mut label_log, &wanted)?;

        let outbox = Outbox::open(&client)?;
        let metrics = Metrics::new(&config);
        let count = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let batches = (config.limits.queue_events / BATCHES_PER_QUEUE).max(2);
        let (inboxes, receivers): (Vec<Sender<Message>>, Vec<Receiver<Message>>) =
            (0..count).map(|_| bounded(batches)).unzip();
        let first_start = wanted.is_empty();
        let globals = folding.trainer().globals();
        let uploads = folding.trainer().uploads().collect();
        let shared =
            Arc::new(Shared::new(config, blueprint, names, store, outbox, metrics, globals, inboxes, first_start));
        *super::shared::lock(&shared.adopted) = adopted;
        *super::shared::lock(&shared.uploads) = uploads;

        let (commits, requests) = bounded(count + 1);
        let mut others = vec![spawn(&shared, "committer", move |shared| committer::run(shared, writer, &requests))];
        let mut workers = Vec::new();
        for inbox in receivers {
            let commits = commits.clone();
            workers.push(spawn(&shared, "worker", move |shared| Worker::new(shared, commits).run(&inbox)));
        }
        let consumed = shared.store.read(|reader| reader.offsets(&shared.config.kafka.labels))?;
        let labels = LogReader::open(&client, &shared.config.kafka.labels, &consumed)?;
        others.push(spawn(&shared, "joiner", move |shared| Joiner::new(shared, commits)?.run(labels)));
        let tasks = spawn(&shared, "tasks", |shared| {
            shared.tasks.run(shared);
            Ok(())
        });
        others.push(spawn(&shared, "trainer", move |shared| folding.run(shared, label_log)));

        let kafka = &shared.config.kafka;
        let source = Source::open(&client, &kafka.group, &kafka.events, shared.clone(), shared.stop.clone())?;
        let (committed, wait) = bounded(0);
        let source = spawn(&shared, "source", move |_| source.run(&wait));
        Ok(Self { shared, source, committed, workers, others, tasks })
    }

    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until somebody asks to stop or something fails, then ends: what was scored is committed, with a last snapshot.
    ///
    /// # Errors
    /// What made the service stop, if nobody asked for it.
    pub fn finish(self) -> anyhow::Result<()> {
        self.shared.wait_for_stop();
        tracing::info!("stopping: committing what was scored");
        for inbox in &self.shared.inboxes {
            // A worker that has failed takes no messages any more.
            drop(inbox.send_timeout(Message::Finish, Duration::from_secs(30)));
        }
        for handle in self.workers.into_iter().chain(self.others) {
            while !handle.is_finished() {
                if self.shared.given_up() {
                    self.shared.outbox.give_up();
                }
                after(LOOK_AGAIN).recv().ok();
            }
            join(handle);
        }
        let patience = after(TASK_PATIENCE);
        while !self.tasks.is_finished() && patience.is_empty() {
            after(LOOK_AGAIN).recv().ok();
        }
        if self.tasks.is_finished() {
            join(self.tasks);
        } else {
            tracing::warn!("a task ends with the process");
        }
        drop(self.committed);
        join(self.source);
        match self.shared.take_failure() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

fn join(handle: JoinHandle<()>) {
    if handle.join().is_err() {
        tracing::error!("a thread has panicked");
    }
}

fn spawn<F>(shared: &Arc<Shared>, name: &'static str, run: F) -> JoinHandle<()>
where
    F: FnOnce(&Shared) -> anyhow::Result<()> + Send + 'static,
{
    let shared = shared.clone();
    let run = move || {
        // A panic is a defect, and the other threads must not go on as if nothing had happened.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&shared)));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => shared.fail(name, error),
            Err(_) => shared.fail(name, anyhow::anyhow!("it panicked: this is a defect in larum")),
        }
    };
    thread::Builder::new().name(name.into()).spawn(run).expect("the system gives a process its few threads")
}

fn open_store(config: &Config, names: &Names) -> anyhow::Result<(Store, store::Writer)> {
    let of = |kind| names.columns.iter().filter(|column| column.kind == kind).cloned().collect::<Vec<_>>();
    let (numbers, categories) = (of(ColumnKind::Number), of(ColumnKind::Category));
    let layout = Layout { numbers: &numbers, categories: &categories, models: &names.models };
    let limits = store::Limits {
        stored_rows_max: config.limits.stored_rows,
        retention_ms: config.store.retention_ms,
        label_horizon_ms: config.store.label_horizon_ms,
        pending_labels_max: config.limits.pending_labels as u64,
        ..store::Limits::default()
    };
    Store::open(&config.store.url, layout, limits)
        .with_context(|| format!("cannot open the store {:?}", config.store.url))
}
