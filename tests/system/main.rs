//! The promises of the service against a real Apache Kafka: nothing lost, nothing twice, the same bits after a crash.
//!
//! `tests/system/run` fetches the broker, builds the release binary and runs these tests one after the other.
#![allow(clippy::unwrap_used, reason = "a test's failure is its panic, in helpers too")]
#![allow(clippy::disallowed_methods, reason = "these tests watch other processes: they wait on the clock")]

mod kafka;
mod larum;
mod predictions;
mod store;
mod traffic;

mod crash;
mod flow;
mod labels;
mod large;
mod malformed;
mod operations;
mod start;

use std::time::{Duration, Instant};

/// Asks until the answer is there; panics with `what` when it is not there in time.
pub(crate) fn wait_for<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A port on the loopback that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The end of a process's log, shown when a test fails.
pub(crate) fn log_tail(path: &std::path::Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    format!("{}:\n{}", path.display(), lines[lines.len().saturating_sub(40)..].join("\n"))
}

/// Sends a signal by name (`TERM`, `KILL`) to a process this test started.
pub(crate) fn signal(child: &std::process::Child, name: &str) {
    let id = child.id().to_string();
    let status = std::process::Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap();
    assert!(status.success(), "kill -{name} {id}: {status}");
}
