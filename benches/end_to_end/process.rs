//! What Linux says of a process: CPU time, by thread too, and memory.

use std::collections::BTreeMap;

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
pub(crate) fn peak_mib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM in /proc");
    let kib: u64 = line.trim_end_matches("kB").trim().parse().expect("VmHWM is a number of KiB");
    kib / 1024
}

/// Name and CPU seconds (proc(5): utime and stime are fields 14 and 15, counted from the name, which may hold anything).
fn stat(path: &str) -> Option<(String, f64)> {
    let text = std::fs::read_to_string(path).ok()?;
    let (head, tail) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = tail.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?;
    Some((head.split_once('(')?.1.to_owned(), ticks / TICKS_PER_SECOND))
}
