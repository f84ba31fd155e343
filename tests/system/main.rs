//! The promises of the service against a real Apache Kafka: nothing lost, nothing twice, the same bits after a crash.
//!
//! `tests/system/run` fetches the broker, builds the release binary and runs these tests one after the other.
#![allow(clippy::unwrap_used, reason = "a test's failure is its panic, in helpers too")]
#![allow(clippy::disallowed_methods, reason = "these tests watch other processes: they wait on the clock")]

mod kafka;
mod larum;
mod predictions;
mod process;
mod store;
mod traffic;

mod crash;
mod flow;
mod labels;
mod large;
mod malformed;
mod operations;
mod refits;
mod start;
mod upload;
