//! Stops in the middle, orderly and not: store and state are as if nothing had happened.

use std::time::Duration;

use crate::kafka::{Broker, Sender};
use crate::larum::{Deployment, Options, Service};
use crate::{predictions, store, traffic};

const EVENTS: u64 = 40_000;
const PARTITIONS: i32 = 4;

/// Sends a stream in the background, so evenly that the service is always in the middle of it.
pub(crate) fn trickle(
    mut sender: Sender,
    records: u64,
    per_second: u64,
    mut send: impl FnMut(&mut Sender, u64) + Send + 'static,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let begin = std::time::Instant::now();
        for index in 0..records {
            let due = Duration::from_secs_f64(index as f64 / per_second as f64);
            if index % 50 == 0 && begin.elapsed() < due {
                std::thread::sleep(due.saturating_sub(begin.elapsed()));
            }
            send(&mut sender, index);
        }
        sender.flush();
    })
}

/// Runs the service through a stream of so many records and ends it three times on the way, each time between two commits.
pub(crate) fn interrupt(deployment: &Deployment, records: u64, end: fn(Service)) {
    for (share, pause_ms) in [(0.15, 350), (0.4, 700), (0.65, 150)] {
        let mut service = deployment.start();
        let scored = (records as f64 * share) as i64;
        service.wait_records(&deployment.options.events, scored);
        std::thread::sleep(Duration::from_millis(pause_ms));
        end(service);
        let reached: i64 = store::scored_through(&deployment.store(), &deployment.options.events).values().sum();
        let records = i64::try_from(records).unwrap();
        assert!(scored <= reached && reached < records, "stopped at {reached} of {records}: not in the middle");
    }
}

/// Three interruptions of a stream; returns the broker, the interrupted deployment and one that ran through in one go.
fn interrupted_and_not(end: fn(Service)) -> (Broker, Deployment, Deployment) {
    let broker = Broker::start();
    broker.create_topic("requests", PARTITIONS);
    let sending = trickle(broker.producer(), EVENTS, 2_000, |sender, index| {
        sender.send("requests", &traffic::record(index, PARTITIONS));
    });
    let interrupted = Deployment::new(&broker, Options::requests("interrupted"));
    interrupt(&interrupted, EVENTS, end);
    sending.join().unwrap();
    interrupted.run_through(&broker);

    let straight = Deployment::new(&broker, Options::requests("straight"));
    straight.run_through(&broker);
    (broker, interrupted, straight)
}

#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn three_kills_change_no_score_and_no_bit_of_the_state() {
    let (broker, interrupted, straight) = interrupted_and_not(Service::kill);
    store::assert_ids(&interrupted.store(), (0..EVENTS).map(traffic::id));
    let copies = predictions::assert_agree(&broker, &interrupted);
    println!("{copies} predictions came twice over three kills");
    store::assert_same(&interrupted.store(), &straight.store());
}

#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn three_restarts_resume_exactly() {
    let (broker, interrupted, straight) = interrupted_and_not(Service::stop);
    store::assert_ids(&interrupted.store(), (0..EVENTS).map(traffic::id));
    let copies = predictions::assert_agree(&broker, &interrupted);
    assert_eq!(copies, 0, "an orderly stop leaves nothing to be sent again");
    store::assert_same(&interrupted.store(), &straight.store());
}

/// With models that learn from labels: adoptions are replayed at their offsets, so a repeated prediction is the same bytes.
#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn kills_between_adoptions_repeat_the_same_predictions() {
    let broker = Broker::start();
    broker.create_topic("requests", PARTITIONS);
    let sending = trickle(broker.producer(), EVENTS, 2_000, |sender, index| {
        sender.send("requests", &traffic::record(index, PARTITIONS));
    });
    let deployment = Deployment::new(&broker, Options::requests("adopting").with_label_learners());
    for (round, pause_ms) in [(1, 300), (2, 900), (3, 600)] {
        let mut service = deployment.start();
        service.wait_records("requests", round * 10_000 - 5_000);
        crate::labels::send_truth(&service, (round as u64 - 1) * 4_000..round as u64 * 4_000);
        service.wait_records("requests", round * 10_000);
        std::thread::sleep(Duration::from_millis(pause_ms));
        service.kill();
    }
    sending.join().unwrap();
    deployment.run_through(&broker);
    store::assert_ids(&deployment.store(), (0..EVENTS).map(traffic::id));
    predictions::assert_agree(&broker, &deployment);
    let versions = store::number(&deployment.store(), "SELECT COUNT(DISTINCT model_version) FROM scored");
    assert!(versions > 3, "{versions} model versions: the labels were not adopted between the kills");
}
