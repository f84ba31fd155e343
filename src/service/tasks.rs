//! Long work that somebody asked for: one after the other on a thread of its own, in a bounded registry that ends with the process.

use super::refit::Retrain;
use super::shared::{Shared, lock};
use super::upload::{End, LabelLog, Upload, Uploaded};
use crate::kafka::Client;
use crate::telemetry;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Tasks that are remembered; the oldest that has ended is forgotten first.
const KEPT_MAX: usize = 100;
/// Tasks that wait for their turn: each may hold a file of `limits.upload_bytes`.
const QUEUE_MAX: usize = 16;

const RETRAIN: &str = "retrain";

/// What a task does. A further kind of work is a further variant.
#[derive(Debug)]
pub enum Work {
    TrainingData(Box<Upload>),
    Retrain(Retrain),
}

impl Work {
    fn kind(&self) -> &'static str {
        match self {
            Self::TrainingData(_) => "training_data",
            Self::Retrain(_) => RETRAIN,
        }
    }

    /// Answers what was done, also where it was cut short; `None` where there is nothing to tell.
    fn run(self, shared: &Shared, progress: &Progress) -> (Option<Value>, anyhow::Result<End>) {
        match self {
            Self::TrainingData(upload) => {
                let kafka = &shared.config.kafka;
                let client = Client::new(&kafka.brokers, &kafka.client);
                let through = lock(&shared.uploads).get(upload.key().as_str()).copied();
                let (names, blueprint) = (&shared.names, &shared.blueprint);
                let log = LabelLog { client: &client, topic: &kafka.label_log, names, blueprint };
                let mut uploaded = Uploaded::default();
                let end = upload.run(&log, through, progress, &mut uploaded);
                shared.metrics.uploaded(&uploaded);
                (Some(json(&uploaded)), end)
            }
            Self::Retrain(retrain) => {
                let (retrained, end) = retrain.run(shared, progress);
                (retrained.as_ref().map(json), end)
            }
        }
    }
}

fn json(result: &impl Serialize) -> Value {
    serde_json::to_value(result).expect("names, numbers and sentences")
}

/// How far work is, in units of its own, and whether somebody wants it to end.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    pub fn set(&self, done: u64, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done.min(total), Ordering::Relaxed);
    }

    /// How much is done, and of how much. All in all 0 before it begins.
    #[must_use]
    pub fn get(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Asks the work to end early.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Queued,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl State {
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// A task as it is now.
#[derive(Debug, Clone)]
pub struct Task {
    pub id: String,
    pub kind: &'static str,
    pub state: State,
    pub progress: Arc<Progress>,
    pub created_ms: i64,
    pub started_ms: Option<i64>,
    pub ended_ms: Option<i64>,
    /// What was done; also of a task that failed or was cancelled.
    pub result: Option<Value>,
    /// Why it did not do all of it.
    pub error: Option<String>,
}

impl Task {
    fn without_result(&self) -> Self {
        Self {
            id: self.id.clone(),
            kind: self.kind,
            state: self.state,
            progress: self.progress.clone(),
            created_ms: self.created_ms,
            started_ms: self.started_ms,
            ended_ms: self.ended_ms,
            result: None,
            error: self.error.clone(),
        }
    }
}

/// Why a task is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    #[error("{QUEUE_MAX} tasks wait already: try again when one has ended")]
    Full,
    #[error("larum is stopping")]
    Stopping,
}

/// Every task of this process.
#[derive(Debug)]
pub struct Tasks {
    started_ms: i64,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    /// By number.
    tasks: BTreeMap<u64, Task>,
    queue: VecDeque<(u64, Work)>,
    next: u64,
    stopped: bool,
}

impl Tasks {
    pub(super) fn new(started_ms: i64) -> Self {
        Self { started_ms, inner: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes work that begins when what was taken before has ended.
    ///
    /// # Errors
    /// When too many wait, or the service is stopping.
    pub fn add(&self, work: Work) -> Result<Task, TaskError> {
        let mut inner = lock(&self.inner);
        if inner.stopped {
            return Err(TaskError::Stopping);
        }
        if inner.queue.len() >= QUEUE_MAX {
            return Err(TaskError::Full);
        }
        inner.next += 1;
        let number = inner.next;
        let task = Task {
            // The start tells it from tasks of an earlier process.
            id: format!("{:x}-{number}", self.started_ms),
            kind: work.kind(),
            state: State::Queued,
            progress: Arc::default(),
            created_ms: telemetry::now_ms(),
            started_ms: None,
            ended_ms: None,
            result: None,
            error: None,
        };
        inner.tasks.insert(number, task.clone());
        inner.queue.push_back((number, work));
        if inner.tasks.len() > KEPT_MAX {
            let oldest = inner.tasks.iter().find(|(_, task)| task.state.has_ended()).map(|(number, _)| *number);
            oldest.and_then(|number| inner.tasks.remove(&number));
        }
        self.changed.notify_all();
        Ok(task)
    }

    /// The newest first, without their results: each may name a thousand lines.
    #[must_use]
    pub fn list(&self) -> Vec<Task> {
        lock(&self.inner).tasks.values().rev().map(Task::without_result).collect()
    }

    /// Whether a refit waits or runs.
    pub(super) fn has_refit(&self) -> bool {
        let tasks = &lock(&self.inner).tasks;
        tasks.values().any(|task| task.kind == RETRAIN && !task.state.has_ended())
    }

    #[must_use]
    pub fn get(&self, id: &str) -> Option<Task> {
        lock(&self.inner).tasks.values().find(|task| task.id == id).cloned()
    }

    /// Ends a task that waits at once, and one that runs soon; what has ended stays as it is.
    #[must_use]
    pub fn cancel(&self, id: &str) -> Option<Task> {
        let mut inner = lock(&self.inner);
        let (number, task) = inner.tasks.iter_mut().find(|(_, task)| task.id == id)?;
        task.progress.cancel();
        if task.state == State::Queued {
            task.state = State::Cancelled;
            task.ended_ms = Some(telemetry::now_ms());
            task.error = Some("cancelled before it began: nothing was written".into());
        }
        let (number, task) = (*number, task.clone());
        inner.queue.retain(|(queued, _)| *queued != number || task.state != State::Cancelled);
        Some(task)
    }

    /// Cancels all, for the process ends.
    pub(super) fn stop(&self) {
        let mut inner = lock(&self.inner);
        inner.stopped = true;
        inner.tasks.values().for_each(|task| task.progress.cancel());
        self.changed.notify_all();
    }

    /// Does the work until the service stops.
    pub(super) fn run(&self, shared: &Shared) {
        while let Some((number, work)) = self.next() {
            let progress = {
                let mut inner = lock(&self.inner);
                let Some(task) = inner.tasks.get_mut(&number) else { continue };
                task.state = State::Running;
                task.started_ms = Some(telemetry::now_ms());
                task.progress.clone()
            };
            // A defect in one task ends that task.
            let ended = catch_unwind(AssertUnwindSafe(|| work.run(shared, &progress)));
            let (result, end) = match ended {
                Ok(ended) => ended,
                Err(_) => (None, Err(anyhow::anyhow!("it panicked: this is a defect in larum"))),
            };
            self.ended(number, result, end);
        }
    }

    fn next(&self) -> Option<(u64, Work)> {
        let mut inner = lock(&self.inner);
        loop {
            if inner.stopped {
                return None;
            }
            if let Some(next) = inner.queue.pop_front() {
                return Some(next);
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn ended(&self, number: u64, result: Option<Value>, end: anyhow::Result<End>) {
        let mut inner = lock(&self.inner);
        let Some(task) = inner.tasks.get_mut(&number) else { return };
        task.ended_ms = Some(telemetry::now_ms());
        task.result = result;
        (task.state, task.error) = match end {
            Ok(End::Finished) => (State::Done, None),
            Ok(End::Cancelled) => {
                (State::Cancelled, Some("cancelled: what was written before stays, as the result says".into()))
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(task = task.id, kind = task.kind, error, "a task failed");
                (State::Failed, Some(error))
            }
        };
        tracing::info!(task = task.id, kind = task.kind, state = task.state.name(), "a task has ended");
    }
}

#[cfg(test)]
mod tests {
    use super::super::upload::{Columns, UploadKey};
    use super::*;
    use crate::config::Config;
    use crate::replay::Source;
    use std::io::Write;

    fn work() -> Work {
        let text = "[kafka]\nevents = \"requests\"\n[event.fields]\nx = \"double\"\n";
        let config = Config::parse("larum.toml".as_ref(), text, &|_| None).unwrap();
        let blueprint = crate::cli::run::blueprint(&config).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"x,label\n1,0\n").unwrap();
        let columns = Columns { label: "label".into(), time: None, entity: None, id: None };
        let key = UploadKey::parse("k").unwrap();
        let upload = Upload::open(&Source::of(file, "f"), &columns, key, &config, &blueprint);
        Work::TrainingData(Box::new(upload.unwrap()))
    }

    #[test]
    fn the_queue_and_what_is_remembered_are_bounded() {
        let tasks = Tasks::new(1_700_000_000_000);
        let waiting: Vec<Task> = (0..QUEUE_MAX).map(|_| tasks.add(work()).unwrap()).collect();
        assert_eq!(tasks.add(work()).unwrap_err(), TaskError::Full);
        assert_eq!(tasks.list().len(), QUEUE_MAX, "what is refused is not remembered");
        // Whoever leaves the queue makes room in it.
        for _ in 0..KEPT_MAX {
            let first = tasks.list().into_iter().rfind(|task| task.state == State::Queued).unwrap();
            assert_eq!(tasks.cancel(&first.id).unwrap().state, State::Cancelled);
            tasks.add(work()).unwrap();
        }
        let list = tasks.list();
        assert_eq!(list.len(), KEPT_MAX);
        assert_eq!(list.iter().filter(|task| task.state == State::Queued).count(), QUEUE_MAX);
        assert!(list.iter().zip(&list[1..]).all(|(newer, older)| newer.id != older.id));
        assert!(
            tasks.get(&waiting[0].id).is_none() && tasks.cancel(&waiting[0].id).is_none(),
            "the oldest is forgotten"
        );
        assert_ne!(list[0].id, Tasks::new(1_700_000_000_001).add(work()).unwrap().id);
    }

    #[test]
    fn a_stop_cancels_all_and_takes_no_more() {
        let tasks = Tasks::new(0);
        let waiting = tasks.add(work()).unwrap();
        tasks.stop();
        assert!(waiting.progress.cancelled() && tasks.next().is_none());
        assert_eq!(tasks.add(work()).unwrap_err(), TaskError::Stopping);
    }
}
