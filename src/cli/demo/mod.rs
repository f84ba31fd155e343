//! `larum demo`: broker, traffic, service, API and a reviewer in one process; what each does is in the file of its name.

mod follower;
mod reviewer;
mod summary;
mod traffic;
mod trained;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use self::follower::Followed;
use self::traffic::Truth;
use super::args::DemoArgs;
use crate::api::Server;
use crate::config::Config;
use crate::kafka::{Client, EmbeddedBroker};
use crate::service::{Service, Shared};
use crate::{shop, telemetry};

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const PARTITIONS: i32 = 4;
/// Between two looks at the state of things, and two drawings of the line.
const TICK: Duration = Duration::from_millis(100);
/// Between two lines where nothing can be redrawn.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Of `--for`, so much is kept for scoring and committing what is on its way.
const KEPT_FOR_THE_END: Duration = Duration::from_millis(1_500);
/// How long the end waits for events, and then for labels, that are on their way.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
const LABELS_PATIENCE: Duration = Duration::from_secs(10);

/// What the threads of the demo count, for the line and the end.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    followed: AtomicU64,
    alarms: AtomicU64,
    alarms_true: AtomicU64,
    labels: AtomicU64,
}

/// # Errors
/// When a part cannot start, or stops by itself.
pub fn run(args: DemoArgs) -> anyhow::Result<()> {
    let timer = telemetry::stopwatch();
    telemetry::init_logging("error");
    let listener = listen(args.listen)?;
    let folder = tempfile::Builder::new().prefix("larum-demo-").tempdir().context("no temporary folder")?;
    let broker = EmbeddedBroker::start()?;
    let config = config(&broker, folder.path(), listener.local_addr()?, args.seed)?;
    create_topics(&broker, &config)?;

    let client = Client::new(&config.kafka.brokers, &config.kafka.client);
    if args.trained {
        trained::promote(&client, &config.kafka.label_log)?;
    }
    let blueprint = super::run::blueprint(&config)?;
    let service = Service::start(config, blueprint)?;
    let shared = service.shared().clone();
    let served = Server::serve(shared.clone(), listener).and_then(|server| {
        super::run::stop_on_signal(shared.clone())?;
        Ok((server.addr(), server))
    });
    let (address, server) = match served {
        Ok(served) => served,
        Err(error) => return stop(&shared, service).and(Err(error)),
    };
    println!(
        "Synthetic shop traffic, an embedded broker and a reviewer; nothing is installed, all data is in {}",
        folder.path().display()
    );
    if args.trained {
        println!("The models that learn from labels were trained on another shop, and vote from the first event on");
    }
    println!("API: http://{address}/openapi.json   metrics: http://{address}/metrics   seed: {}", args.seed);
    println!("{}", if args.duration.is_some() { "Ctrl-C ends it early." } else { "Ctrl-C ends it with a summary." });

    let scene = Scene::open(&shared, &client, address, args.seed);
    let end = args.duration.map(|duration| duration.saturating_sub(KEPT_FOR_THE_END.min(duration / 4)));
    let played = scene.and_then(|scene| scene.play(&shared, timer, end));
    let stopped = stop(&shared, service);
    server.stop();
    // What waits for signals keeps a producer open to the end of the process, and that one would complain of a broker gone.
    std::mem::forget(broker);
    // What made the service stop is why the others stopped too.
    stopped?;
    let (played, seconds) = (played?, timer.elapsed().as_secs_f64());
    let learned = shared.globals.load();
    let ending = summary::Ending {
        seconds,
        sent: played.counts.sent.load(Relaxed),
        scored: shared.metrics.scored(),
        dead_letters: shared.metrics.dead_letters(),
        labels_given: played.counts.labels.load(Relaxed),
        anomalies_learned: learned.anomalies,
        normals_learned: learned.normals,
        model_version: learned.version,
    };
    print!("{}", summary::write(&ending, &played.followed?));
    println!(
        "\nThe data was in {} and is gone now. Next:\n  \
         larum generate --config > larum.toml   the configuration of this demo\n  \
         larum run -c larum.toml                the same against your own Kafka\n  \
         README.md                              how to describe your own events",
        folder.path().display()
    );
    Ok(())
}

fn stop(shared: &Shared, service: Service) -> anyhow::Result<()> {
    shared.stop();
    service.finish()
}

/// The address that was asked for; or 8080, or else whatever is free.
fn listen(asked: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    match asked {
        Some(address) => TcpListener::bind(address)
            .with_context(|| format!("cannot listen on {address}: is it taken? Without --listen a free port is found")),
        None => TcpListener::bind(LISTEN)
            .or_else(|_| TcpListener::bind(SocketAddr::new(LISTEN.ip(), 0)))
            .context("no free port on 127.0.0.1"),
    }
}

fn config(broker: &EmbeddedBroker, folder: &Path, listen: SocketAddr, seed: u64) -> anyhow::Result<Config> {
    let mut config = Config::parse("larum.toml".as_ref(), shop::larum_toml(), &|_| None)?;
    config.kafka.brokers = broker.brokers();
    config.store.url = format!("sqlite:{}", folder.join("larum.db").display());
    config.api.listen = listen;
    config.seed = seed;
    Ok(config)
}

fn create_topics(broker: &EmbeddedBroker, config: &Config) -> anyhow::Result<()> {
    let kafka = &config.kafka;
    for (topic, partitions) in [
        (&kafka.events, PARTITIONS),
        (&kafka.predictions, PARTITIONS),
        (&kafka.labels, 1),
        (&kafka.label_log, 1),
        (&kafka.dead_letters, 1),
    ] {
        broker.create_topic(topic, partitions)?;
    }
    Ok(())
}

/// The threads around the service.
struct Scene {
    counts: Arc<Counts>,
    /// Dropped to end the thread of its name.
    traffic_goes_on: Sender<()>,
    follower_goes_on: Sender<()>,
    reviewer_goes_on: Sender<()>,
    traffic: JoinHandle<anyhow::Result<()>>,
    follower: JoinHandle<anyhow::Result<Followed>>,
    reviewer: JoinHandle<anyhow::Result<()>>,
}

/// What is left when they have ended.
struct Played {
    counts: Arc<Counts>,
    followed: anyhow::Result<Followed>,
}

impl Scene {
    fn open(shared: &Arc<Shared>, client: &Client, address: SocketAddr, seed: u64) -> anyhow::Result<Self> {
        let counts = Arc::new(Counts::default());
        let (truth_in, truth) = unbounded::<Truth>();
        let (alarms_in, alarms) = unbounded();
        let (traffic_goes_on, traffic_ends) = bounded(0);
        let (follower_goes_on, follower_ends) = bounded(0);
        let (reviewer_goes_on, reviewer_ends) = bounded(0);
        let follower = follower::Follower::open(client, shared, counts.clone(), truth, alarms_in)?;
        let traffic = traffic::Traffic::open(client, shared, counts.clone(), truth_in, seed)?;
        let reviewer = reviewer::Reviewer::new(shared, address, counts.clone(), seed);
        Ok(Self {
            counts,
            traffic_goes_on,
            follower_goes_on,
            reviewer_goes_on,
            traffic: spawn("traffic", shared, move || traffic.run(&traffic_ends))?,
            follower: spawn("follower", shared, move || follower.run(&follower_ends))?,
            reviewer: spawn("reviewer", shared, move || reviewer.run(&alarms, &reviewer_ends))?,
        })
    }

    /// Shows what happens until `end`, or until somebody asks to stop; then lets what is on its way arrive.
    fn play(self, shared: &Shared, timer: Instant, end: Option<Duration>) -> anyhow::Result<Played> {
        let mut show = Show::new(timer);
        // Nobody sends: waiting on it is a sleep.
        let (_silent, pause) = bounded::<()>(0);
        let wait = |show: &mut Show, until: &dyn Fn() -> bool| {
            while !until() && !shared.stopping() {
                pause.recv_timeout(TICK).ok();
                show.tick(&self.counts, shared);
            }
        };
        wait(&mut show, &|| end.is_some_and(|end| timer.elapsed() >= end));

        drop(self.traffic_goes_on);
        let sent = join(self.traffic);
        let patience = timer.elapsed() + DRAIN_PATIENCE;
        let through = || shared.metrics.scored() + shared.metrics.dead_letters() >= self.counts.sent.load(Relaxed);
        wait(&mut show, &|| through() || timer.elapsed() >= patience);
        drop(self.reviewer_goes_on);
        let reviewed = join(self.reviewer);
        let patience = timer.elapsed() + LABELS_PATIENCE;
        let learned = || {
            let globals = shared.globals.load();
            globals.anomalies + globals.normals >= self.counts.labels.load(Relaxed)
        };
        wait(&mut show, &|| learned() || timer.elapsed() >= patience);
        drop(self.follower_goes_on);
        let followed = join(self.follower);
        show.end();
        // The first thing that went wrong is what the user needs to know.
        sent.and(reviewed)?;
        Ok(Played { counts: self.counts, followed })
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    shared: &Arc<Shared>,
    run: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
    let shared = shared.clone();
    let run = move || {
        // Without one of its parts the demo shows nothing: end, and say why.
        run().inspect_err(|_| shared.stop())
    };
    std::thread::Builder::new().name(name.into()).spawn(run).context("cannot start a thread")
}

fn join<T>(thread: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of the demo has panicked: this is a defect in larum")))
}

/// True when the other end of the channel was dropped within `timeout`.
fn ended(ends: &Receiver<()>, timeout: Duration) -> bool {
    matches!(ends.recv_timeout(timeout), Err(RecvTimeoutError::Disconnected))
}

/// The live line: redrawn on a terminal, a new one every few seconds elsewhere. On standard error.
struct Show {
    bar: ProgressBar,
    timer: Instant,
    /// When the last rate was taken, of how many events, and what it was.
    taken: (Duration, u64, f64),
    line_due: Duration,
}

impl Show {
    fn new(timer: Instant) -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        Self { bar, timer, taken: (timer.elapsed(), 0, 0.0), line_due: LINE_EVERY }
    }

    fn tick(&mut self, counts: &Counts, shared: &Shared) {
        let (now, scored) = (self.timer.elapsed(), shared.metrics.scored());
        let (then, before, rate) = &mut self.taken;
        // The service counts at its commits, each second.
        if now.saturating_sub(*then) >= Duration::from_secs(2) {
            *rate = (scored - *before) as f64 / (now - *then).as_secs_f64();
            (*then, *before) = (now, scored);
        }
        let (alarms, alarms_true) = (counts.alarms.load(Relaxed), counts.alarms_true.load(Relaxed));
        let line = format!(
            "{:>3.0} s  {} events  {:.0}/s  alarms {alarms} ({alarms_true} true)  labels {}  model version {}",
            now.as_secs_f64(),
            HumanCount(scored),
            rate,
            counts.labels.load(Relaxed),
            shared.globals.load().version,
        );
        if !self.bar.is_hidden() {
            self.bar.set_message(line);
            self.bar.tick();
        } else if now >= self.line_due {
            self.line_due += LINE_EVERY;
            eprintln!("{line}");
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_left_alone_unless_it_was_asked_for() {
        // Either this takes 8080 or somebody else has.
        let _taken = TcpListener::bind(LISTEN);
        let free = listen(None).unwrap().local_addr().unwrap();
        assert!(free.ip().is_loopback() && free.port() != LISTEN.port(), "{free}");
        assert!(listen(Some(LISTEN)).unwrap_err().to_string().contains("--listen"));
    }
}
