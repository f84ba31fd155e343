//! Online anomaly detection for Kafka that learns from labels. The modules in reading order, from event to alarm:
//!
//! - core, pure (no I/O, no clock, no global randomness): [`event`], [`features`], [`model`], [`decision`], [`learn`], [`engine`];
//!   beside them [`draw`] (seeded randomness), [`quality`] (measures), [`shop`] (synthetic events), [`suggest`] (misspelt names)
//! - shell: [`config`], [`wire`], [`kafka`], [`store`], [`service`], [`replay`], [`api`], [`cli`], [`telemetry`]
//!
//! The invariants, in five lines:
//! 1. An event is scored before anything learns from it; `score(&self)` cannot change a model, `learn(&mut self)` cannot answer a score.
//! 2. Partition state is a function of one partition's events in offset order and of its adoptions.
//! 3. Global models are a fold over the label log in offset order; every instance holds the same bits.
//! 4. A commit is one database transaction, after Kafka has acknowledged what it speaks of; recovery replays from a snapshot.
//! 5. Everything that can grow has a bound; a record that cannot be used is a dead letter and stops nothing.

pub mod event;
pub mod features;
pub mod model;
pub mod decision;
pub mod learn;
pub mod engine;
pub mod quality;
pub mod draw;
pub mod shop;
pub mod suggest;

pub mod config;
pub mod wire;
pub mod kafka;
pub mod store;
pub mod service;
pub mod replay;
pub mod api;
pub mod cli;
pub mod telemetry;
