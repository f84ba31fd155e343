//! The loop of one worker: it owns some partitions and drives their engines. Each thing that it does beside has its file.

mod answer;
mod assign;
mod commit;
mod send;

use super::committer::Request;
use super::shared::{Described, Predicted, Query, Shared};
use crate::draw::{Draw, Purpose};
use crate::engine::{Outcome, Partition};
use crate::event::Record;
use crate::kafka::{Batch, Sender as OutboxSender, SourceEvent};
use crate::learn::Globals;
use crate::store::ScoredRow;
use crate::telemetry::Tally;
use crate::wire::PredictionWriter;
use anyhow::ensure;
use crossbeam_channel::{Receiver, Sender, select, tick};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What a worker is asked to do.
#[derive(Debug)]
pub enum Message {
    Source(SourceEvent),
    Predict {
        queries: Arc<Vec<Query>>,
        answer: Sender<Vec<Predicted>>,
    },
    Describe {
        answer: Sender<Vec<Described>>,
    },
    /// Commit everything with a last snapshot, then end.
    Finish,
}

impl From<SourceEvent> for Message {
    fn from(event: SourceEvent) -> Self {
        Self::Source(event)
    }
}

/// One partition in the hands of its worker.
struct Owned {
    engine: Partition,
    keep: Draw,
    /// What the store holds, or will once the commits on their way are done.
    committed: i64,
    /// Records below were scored before: the engine runs them silently.
    scored_through: i64,
    /// Adoptions still to be repeated by the silent run, oldest first.
    adoptions: VecDeque<(i64, Arc<Globals>)>,
    rows: Vec<ScoredRow>,
    tally: Tally,
}

pub(super) struct Worker<'a> {
    shared: &'a Shared,
    outbox: OutboxSender,
    commits: Sender<Request>,
    /// The commit on its way; there is at most one.
    pending: Option<Receiver<()>>,
    owned: BTreeMap<i32, Owned>,
    /// Rows waiting for the next commit, over all partitions.
    rows: usize,
    writer: PredictionWriter,
    payload: Vec<u8>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared, commits: Sender<Request>) -> Self {
        Self {
            shared,
            outbox: shared.outbox.sender(),
            commits,
            pending: None,
            owned: BTreeMap::new(),
            rows: 0,
            writer: PredictionWriter::new(&shared.names, &shared.topic),
            payload: Vec::new(),
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Message>) -> anyhow::Result<()> {
        let limits = &self.shared.config.limits;
        let commit = tick(Duration::from_millis(limits.commit_ms));
        let snapshot = tick(Duration::from_millis(limits.snapshot_ms));
        let rows_max = limits.commit_rows;
        loop {
            select! {
                recv(inbox) -> message => match message {
                    Ok(Message::Source(SourceEvent::Records(batch))) => {
                        self.take(&batch)?;
                        if self.rows >= rows_max {
                            self.shared.metrics.limit("commit_rows", 1);
                            self.commit(false)?;
                        }
                    }
                    Ok(Message::Source(SourceEvent::Assigned { partition, partitions, offset })) => {
                        self.assigned(partition, partitions, offset)?;
                    }
                    Ok(Message::Source(SourceEvent::Revoked { partition })) => self.revoked(partition)?,
                    Ok(Message::Predict { queries, answer }) => {
                        drop(answer.send(self.predict(&queries))); // the asker may have given up
                    }
                    Ok(Message::Describe { answer }) => {
                        drop(answer.send(self.describe()));
                    }
                    Ok(Message::Finish) | Err(_) => {
                        self.commit(true)?;
                        return self.settle();
                    }
                },
                recv(commit) -> _ => {
                    // Its inbox was too full to say that it should finish.
                    ensure!(!self.shared.given_up(), "did not end in time; the next start repeats what was not committed");
                    self.commit(false)?;
                }
                recv(snapshot) -> _ => self.commit(true)?,
            }
        }
    }

    fn take(&mut self, batch: &Batch) -> anyhow::Result<()> {
        for meta in &batch.records {
            // Not ours (any more): it will be read again by whoever gets the partition, from what we committed.
            let Some(owned) = self.owned.get_mut(&meta.partition) else { continue };
            if meta.offset < owned.engine.offset() {
                continue;
            }
            while owned.adoptions.front().is_some_and(|(from, _)| *from <= meta.offset) {
                if let Some((_, globals)) = owned.adoptions.pop_front() {
                    owned.engine.adopt(globals);
                }
            }
            let record = Record {
                offset: meta.offset,
                timestamp_ms: meta.timestamp_ms,
                key: batch.key(meta),
                payload: batch.payload(meta),
            };
            let outcome = owned.engine.handle(&record);
            if meta.offset < owned.scored_through {
                continue;
            }
            match outcome {
                Outcome::Scored(scored) => {
                    owned.tally.scored(&scored);
                    send::scored(self.shared, &self.outbox, &self.writer, &mut self.payload, meta, &scored)?;
                    let keep = self.shared.config.store.keep;
                    if scored.alarm || owned.keep.chance(Purpose::Keep, meta.offset.unsigned_abs(), keep) {
                        owned.rows.push(send::row(self.shared, meta, *scored));
                        self.rows += 1;
                    }
                }
                Outcome::Filtered => owned.tally.filtered += 1,
                Outcome::Rejected(rejection) => {
                    owned.tally.rejected(&rejection);
                    send::dead_letter(self.shared, &self.outbox, meta, &record, &rejection)?;
                }
            }
        }
        Ok(())
    }
}
