//! What the handlers share, and how they wait: blocking work goes to threads of its own, a bounded number at a time.

use super::error::ApiError;
use crate::kafka;
use crate::service::Shared;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

/// Requests that read the store or wait for scoring at once; the others wait for their turn.
pub(super) const BLOCKING_MAX: usize = 16;
/// Uploads that wait for Kafka at once: one is being sent while the other's acknowledgements come.
pub(super) const UPLOADS_MAX: usize = 2;

/// Files of training data that are taken in at once; a further one is refused.
pub(super) const FILES_MAX: usize = 2;

/// The state of every handler.
#[derive(Debug, Clone)]
pub(super) struct Api(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    blocking: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    files: Arc<Semaphore>,
    sender: Mutex<kafka::Sender>,
    request_max: Duration,
}

impl Api {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Inner {
            blocking: Arc::new(Semaphore::new(BLOCKING_MAX)),
            uploads: Arc::new(Semaphore::new(UPLOADS_MAX)),
            files: Arc::new(Semaphore::new(FILES_MAX)),
            sender: Mutex::new(shared.outbox.sender()),
            request_max: Duration::from_millis(shared.config.limits.request_ms),
            shared,
        }))
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// How long a request may take.
    pub(super) fn request_max(&self) -> Duration {
        self.0.request_max
    }

    /// How long its parts may wait, so that they can still say what they waited for.
    pub(super) fn patience(&self) -> Duration {
        self.0.request_max.mul_f64(0.9)
    }

    /// The sender of what people say: verdicts to the labels topic, and versions that they put in charge to the label log.
    pub(super) fn sender(&self) -> &Mutex<kafka::Sender> {
        &self.0.sender
    }

    /// A turn to take a file in, if there is one.
    pub(super) fn file_turn(&self) -> Option<OwnedSemaphorePermit> {
        self.0.files.clone().try_acquire_owned().ok()
    }

    /// Runs what blocks on the store or on the scoring loops.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.run(self.0.blocking.clone(), work).await
    }

    /// Runs what waits for Kafka: never so much at once that reading would have to wait behind it.
    pub(super) async fn upload<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.run(self.0.uploads.clone(), work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        turns: Arc<Semaphore>,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = turns.acquire_owned().await.map_err(|_| ApiError::unavailable("stopping", "larum is stopping"))?;
        let api = self.clone();
        let work = spawn_blocking(move || {
            // The turn ends with the work, not with the request: a client that leaves makes no room for more.
            let _turn = turn;
            work(&api)
        });
        work.await.unwrap_or_else(|error| Err(ApiError::internal("a request ended in a defect", &error)))
    }
}
