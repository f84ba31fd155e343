//! The one thread that writes the store. What Kafka must have acknowledged first is waited for here, not in the scoring loops.

use super::shared::{Shared, lock};
use crate::kafka::Ticket;
use crate::store::{Commit, LabelCommit, PartitionCommit, Writer};
use crossbeam_channel::{Receiver, Sender, select, tick};
use std::time::Duration;

/// How often old rows are looked for.
const MAINTENANCE: Duration = Duration::from_secs(5);

/// Something to store.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) parts: Vec<PartitionCommit>,
    pub(super) labels: LabelCommit,
    /// Everything sent to Kafka that this commit speaks of.
    pub(super) ticket: Option<Ticket>,
    /// Told once it is stored. When the store refuses, the channel closes without a word and the service stops.
    pub(super) done: Sender<()>,
}

pub(super) fn run(shared: &Shared, mut writer: Writer, requests: &Receiver<Request>) -> anyhow::Result<()> {
    let maintenance = tick(MAINTENANCE);
    loop {
        select! {
            recv(requests) -> request => {
                let Ok(request) = request else { return Ok(()) }; // every sender has stopped
                *lock(&shared.commit_began) = Some(crate::telemetry::stopwatch());
                commit(shared, &mut writer, request, requests)?;
                *lock(&shared.commit_began) = None;
            }
            recv(maintenance) -> _ => {
                let maintained = writer.maintain(crate::telemetry::now_ms())?;
                shared.metrics.maintained(&maintained);
            }
        }
    }
}

/// One transaction for this request and for those that wait behind it.
fn commit(shared: &Shared, writer: &mut Writer, first: Request, waiting: &Receiver<Request>) -> anyhow::Result<()> {
    let timer = shared.metrics.commit_timer();
    let mut commit = Commit::default();
    let mut done = Vec::new();
    let mut labels = false;
    let mut next = Some(first);
    while let Some(request) = next {
        if let Some(ticket) = &request.ticket {
            ticket.wait(|| shared.given_up() || shared.failed())?;
        }
        labels |= !request.labels.is_empty();
        commit.parts.extend(request.parts);
        commit.labels.append(request.labels);
        done.push(request.done);
        // A second list of labels would have to wait for the fence of the first.
        next = if labels { None } else { waiting.try_recv().ok() };
    }
    let committed = writer.commit(&commit)?;
    {
        let mut reached = lock(&shared.committed);
        for part in &commit.parts {
            reached.insert(part.partition, part.next_offset);
        }
    }
    shared.metrics.committed(&committed, timer);
    for done in done {
        done.send(()).ok(); // whoever asked may have stopped waiting
    }
    Ok(())
}
