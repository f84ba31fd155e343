//! The listener: connections are accepted, bounded in number and in the time for their headers, and ended gracefully.

use super::router::router;
use super::state::{Api, BLOCKING_MAX, FILES_MAX, UPLOADS_MAX};
use crate::service::Shared;
use crate::telemetry::Metrics;
use anyhow::{Context, bail};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

/// For the headers of a request, and for how long an idle connection may stay.
const HEADERS_MAX: Duration = Duration::from_secs(10);
/// How often the listener looks whether the service stops.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// For requests under way when the listener stops.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// After a failure to accept (no file descriptors left, mostly).
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// A running API. It ends when it is stopped or dropped, or with the service.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `[api] listen` and answers on threads of its own.
    ///
    /// # Errors
    /// When the address is taken, or is not a loopback address: nobody is asked for a token yet.
    pub fn start(shared: Arc<Shared>) -> anyhow::Result<Self> {
        let listen = shared.config.api.listen;
        refuse_public(listen)?;
        let listener = TcpListener::bind(listen)
            .with_context(|| format!("cannot listen on {listen} ([api] listen): is it taken by another process?"))?;
        Self::serve(shared, listener)
    }

    /// Answers on a listener that is open already.
    ///
    /// # Errors
    /// When its address is not a loopback address, or the system gives no threads.
    pub fn serve(shared: Arc<Shared>, listener: TcpListener) -> anyhow::Result<Self> {
        let addr = listener.local_addr()?;
        refuse_public(addr)?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(BLOCKING_MAX + UPLOADS_MAX + FILES_MAX)
            .thread_name("api")
            .enable_all()
            .build()
            .context("the threads of the HTTP API were refused")?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopping) = watch::channel(false);
        let run = move || run(runtime, shared, listener, stopping);
        let thread = std::thread::Builder::new().name("api-listener".into()).spawn(run)?;
        tracing::info!(%addr, "the HTTP API listens");
        Ok(Self { addr, stop, thread: Some(thread) })
    }

    /// Where it listens: with port 0 configured, the port that was free.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Accepts no more, lets requests under way finish for a few seconds, and returns when all has ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the HTTP API has panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn refuse_public(addr: SocketAddr) -> anyhow::Result<()> {
    if !addr.ip().is_loopback() {
        bail!(
            "the HTTP API asks nobody for a token yet, so it listens on loopback only, not on {addr} ([api] listen): use 127.0.0.1:8080"
        );
    }
    Ok(())
}

fn run(runtime: Runtime, shared: Arc<Shared>, listener: tokio::net::TcpListener, stopping: watch::Receiver<bool>) {
    let connections_max = u32::try_from(shared.config.limits.connections).unwrap_or(u32::MAX);
    let router = router(&Api::new(shared.clone()));
    runtime.block_on(async {
        let connections = Arc::new(Semaphore::new(connections_max as usize));
        let (end, ending) = watch::channel(false);
        tokio::select! {
            () = accept(&listener, &router, &shared.metrics, &connections, &ending) => {}
            () = asked_to_stop(&shared, stopping) => {}
        }
        drop(listener);
        end.send_replace(true);
        let all = connections.acquire_many(connections_max);
        if tokio::time::timeout(STOP_PATIENCE, all).await.is_err() {
            tracing::warn!("some HTTP requests were still under way when the API stopped");
        }
    });
    // What still waits for Kafka is not waited for: it holds nothing that the next start does not repeat.
    runtime.shutdown_timeout(STOP_PATIENCE);
}

async fn asked_to_stop(shared: &Shared, mut stopping: watch::Receiver<bool>) {
    let mut look_again = tokio::time::interval(LOOK_AGAIN);
    while !shared.stopping() {
        tokio::select! {
            _ = look_again.tick() => {}
            _ = stopping.changed() => return,
        }
    }
}

/// Takes connections in for ever; one beyond the limit waits in the system's queue until another ends.
async fn accept(
    listener: &tokio::net::TcpListener,
    router: &Router,
    metrics: &Metrics,
    connections: &Arc<Semaphore>,
    ending: &watch::Receiver<bool>,
) {
    loop {
        if connections.available_permits() == 0 {
            metrics.limit("connections", 1);
        }
        let permit = connections.clone().acquire_owned().await.expect("nobody closes this semaphore");
        match listener.accept().await {
            Ok((stream, _)) => {
                let (router, ending) = (router.clone(), ending.clone());
                tokio::spawn(async move {
                    connection(stream, router, ending).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, mut ending: watch::Receiver<bool>) {
    // Small answers leave at once; where the option is refused they are only slower.
    drop(stream.set_nodelay(true));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = ending.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A client that sends no headers in time or goes away: its affair.
        tracing::debug!(%error, "a connection ended early");
    }
}
