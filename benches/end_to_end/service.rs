//! One run of the `larum` binary over the whole events topic, with a fresh group and store, watched from outside.

use crate::process::{self, free_port, log_tail, signal, wait_for};
use crate::{EVENTS_TOPIC, Measured, Models, Setting, workload};
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(600);

/// The service's process, killed when the bench fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The rate is that between the first commit that holds events and the last one, so that starting is not measured; CPU time and memory are
/// those of the whole life.
pub(crate) fn run(brokers: &str, name: &str, setting: Setting, events: u64) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let (config, log, store) =
        (folder.path().join("larum.toml"), folder.path().join("larum.log"), folder.path().join("larum.db"));
    std::fs::write(&config, toml(brokers, name, setting, &store)).unwrap();
    let file = File::create(&log).unwrap();
    let binary = std::env::var_os("LARUM_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_larum").into());
    let mut command = Command::new(binary);
    command.arg("run").arg("-c").arg(&config).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let mut running = Running(command.spawn().unwrap());
    let process = running.0.id();

    let mut reached = |what: &str, least: u64| {
        wait_for(what, PATIENCE, || {
            let ended = running.0.try_wait().unwrap();
            assert!(ended.is_none(), "larum ended: {ended:?}\n{}", log_tail(&log));
            Some((scored_through(&store)?, Instant::now())).filter(|(through, _)| *through >= least)
        })
    };
    let (first, begin) = reached("the first commit", 1);
    let (_, end) = reached("the last commit", events);
    let cpu = process::cpu_seconds(process);
    let peak_mib = Some(process::peak_kib(process) / 1024);
    let million = events as f64 / 1e6;
    let threads = process::cpu_seconds_by_thread(process).into_iter().take_while(|(_, seconds)| *seconds >= 0.05 * cpu);
    let threads: Vec<String> = threads.map(|(name, seconds)| format!("{name} {:.2}", seconds / million)).collect();
    println!("{:32} CPU seconds per million events by thread: {}", "", threads.join(", "));

    let stored = count(&store, "SELECT COUNT(*) FROM scored");
    assert!(setting.keep < 1.0 || stored == Some(events), "{stored:?} of {events} events are in the store");
    signal(&running.0, "TERM");
    let status = wait_for("larum's end", Duration::from_secs(60), || running.0.try_wait().unwrap());
    assert!(status.success(), "larum: {status}\n{}", log_tail(&log));
    // Where the first commit holds everything there is no rate to be seen; that is a run of a few events.
    let rate = (events - first) as f64 / (end - begin).as_secs_f64().max(1e-3);
    Measured { rate, cpu_seconds: cpu / million, peak_mib }
}

fn toml(brokers: &str, name: &str, setting: Setting, store: &Path) -> String {
    let fields: String = workload::FIELDS.iter().map(|(name, kind)| format!("{name} = \"{kind}\"\n")).collect();
    let models = match setting.models {
        Models::Default => String::new(),
        Models::Regression => ["linear_regression", "logistic_regression", "svm"]
            .map(|kind| format!("[[models]]\nkind = \"{kind}\"\n"))
            .concat(),
    };
    format!(
        "[kafka]\nbrokers = \"{brokers}\"\ngroup = \"{name}\"\nevents = \"{EVENTS_TOPIC}\"\nstart = \"earliest\"\n\
         predictions = \"{name}.scored\"\nlabels = \"{name}.labels\"\nlabel_log = \"{name}.label-log\"\n\
         dead_letters = \"{name}.dlq\"\n\
         [event]\nid = \"request_id\"\ntime = \"ts\"\nentity = \"host\"\n[event.fields]\n{fields}\
         [features]\nsql = \"\"\"\n{}\"\"\"\n{models}\
         [store]\nurl = \"sqlite:{}\"\nkeep = {:?}\n[api]\nlisten = \"127.0.0.1:{}\"\n",
        workload::SQL,
        store.display(),
        setting.keep,
        free_port(),
    )
}

/// Over all partitions; none before there is a store.
fn scored_through(store: &Path) -> Option<u64> {
    let topic = format!("SELECT COALESCE(SUM(scored_through), 0) FROM offsets WHERE topic = '{EVENTS_TOPIC}'");
    count(store, &topic)
}

fn count(store: &Path, sql: &str) -> Option<u64> {
    let connection = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    connection.busy_timeout(Duration::from_secs(5)).ok()?;
    let number: i64 = connection.query_row(sql, [], |row| row.get(0)).ok()?;
    Some(number.unsigned_abs())
}
