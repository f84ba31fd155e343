//! Other processes and what Linux says of them: waiting, ports, logs, signals, CPU time, memory. The end-to-end bench shares it.
#![allow(dead_code, reason = "the tests and the bench each use their part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Asks until the answer is there; panics with `what` when it is not there in time.
pub(crate) fn wait_for<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port on the loopback that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The end of a process's log, shown when it fails.
pub(crate) fn log_tail(path: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    format!("{}:\n{}", path.display(), lines[lines.len().saturating_sub(40)..].join("\n"))
}

/// Sends a signal by name (`TERM`, `KILL`) to a process this one started.
pub(crate) fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let status = Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap();
    assert!(status.success(), "kill -{name} {id}: {status}");
}

/// Ticks of CPU time a second: `USER_HZ`, which is 100 on every Linux that Rust's standard library runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds used so far, in user and system mode, the threads that have ended included.
pub(crate) fn cpu_seconds(process: u32) -> f64 {
    stat(&format!("/proc/{process}/stat")).expect("the process runs").1
}

/// CPU seconds of the running threads by thread name, the busiest first.
pub(crate) fn cpu_seconds_by_thread(process: u32) -> Vec<(String, f64)> {
    let mut by_name = BTreeMap::<String, f64>::new();
    for task in std::fs::read_dir(format!("/proc/{process}/task")).expect("the process runs").flatten() {
        // A thread may end between the two reads.
        if let Some((name, seconds)) = stat(&task.path().join("stat").display().to_string()) {
            *by_name.entry(name).or_default() += seconds;
        }
    }
    let mut all: Vec<_> = by_name.into_iter().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}

/// The largest resident memory so far.
pub(crate) fn peak_kib(process: u32) -> u64 {
    status_kib(process, "VmHWM:")
}

/// Resident memory now.
pub(crate) fn resident_kib(process: u32) -> u64 {
    status_kib(process, "VmRSS:")
}

fn status_kib(process: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line of /proc/PID/status");
    line.trim_end_matches("kB").trim().parse().expect("a number of KiB")
}

/// Name and CPU seconds (proc(5): utime and stime are fields 14 and 15, counted from the name, which may hold anything).
fn stat(path: &str) -> Option<(String, f64)> {
    let text = std::fs::read_to_string(path).ok()?;
    let (head, tail) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = tail.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?;
    Some((head.split_once('(')?.1.to_owned(), ticks / TICKS_PER_SECOND))
}
