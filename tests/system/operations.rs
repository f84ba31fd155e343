//! What happens around a running service: a topic grows, the broker goes away and comes back, a stop is asked for.

use std::time::Duration;

use crate::kafka::Broker;
use crate::larum::{Deployment, Options};
use crate::{predictions, store, traffic};

/// New partitions are read from their first record on, whatever `start` says: that is for the first start only.
#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn two_partitions_become_eight() {
    let broker = Broker::start();
    broker.create_topic("requests", 2);
    let options = Options { start: "latest".to_owned(), ..Options::requests("growing") };
    let deployment = Deployment::new(&broker, options);
    let mut service = deployment.start();
    traffic::send(&broker, "requests", 2, 0..4_000);
    service.wait_through(&broker, "requests");
    broker.grow_topic("requests", 8);
    traffic::send(&broker, "requests", 8, 4_000..12_000);
    service.wait_through(&broker, "requests");
    let owned = store::scored_through(&deployment.store(), "requests");
    assert_eq!(owned.len(), 8, "partitions with an offset: {owned:?}");
    service.stop();
    store::assert_ids(&deployment.store(), (0..12_000).map(traffic::id));
    predictions::assert_agree(&broker, &deployment);
}

/// A broker that stops, and one that is killed: the service waits, keeps running, and loses nothing.
#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn the_broker_restarts() {
    let mut broker = Broker::start();
    broker.create_topic("requests", 4);
    traffic::send(&broker, "requests", 4, 0..5_000);
    let deployment = Deployment::new(&broker, Options::requests("patient"));
    let mut service = deployment.start();
    let process = service.id();
    service.wait_through(&broker, "requests");

    traffic::send(&broker, "requests", 4, 5_000..15_000);
    broker.stop();
    std::thread::sleep(Duration::from_secs(4));
    service.must_run();
    assert_eq!(service.get("/livez").unwrap().0, 200, "liveness depends on Kafka");
    broker.resume();
    traffic::send(&broker, "requests", 4, 15_000..20_000);
    service.wait_through(&broker, "requests");

    traffic::send(&broker, "requests", 4, 20_000..30_000);
    broker.kill();
    std::thread::sleep(Duration::from_secs(1));
    broker.resume();
    traffic::send(&broker, "requests", 4, 30_000..35_000);
    service.wait_through(&broker, "requests");
    assert_eq!(service.id(), process);
    service.stop();
    store::assert_ids(&deployment.store(), (0..35_000).map(traffic::id));
    predictions::assert_agree(&broker, &deployment);
}

/// SIGTERM in the middle: exit code 0, everything scored is committed in the store, in Kafka, and in a last snapshot.
#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn a_stop_takes_a_last_snapshot() {
    let broker = Broker::start();
    broker.create_topic("requests", 2);
    let deployment = Deployment::new(&broker, Options::requests("stopped"));
    let sending = crate::crash::trickle(broker.producer(), 20_000, 4_000, |sender, index| {
        sender.send("requests", &traffic::record(index, 2));
    });
    let mut service = deployment.start();
    service.wait_records("requests", 6_000);
    service.stop();
    sending.join().unwrap();

    let reached = store::scored_through(&deployment.store(), "requests");
    assert!(reached.values().sum::<i64>() < 20_000, "stopped at the end: {reached:?}");
    let rows = store::scored(&deployment.store());
    for (partition, next) in &reached {
        let last = rows.keys().filter(|at| at.0 == *partition).map(|at| at.1).max();
        assert_eq!(last, Some(next - 1), "the last row of partition {partition}");
    }
    assert_eq!(store::snapshots(&deployment.store(), "requests"), reached, "the offsets of the snapshots");
    assert_eq!(broker.committed("stopped", "requests"), reached, "the group's committed offsets");
}

/// Nothing can be acknowledged any more: the stop gives up after its deadline, and the next start repeats what was not committed.
#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn a_stop_ends_although_the_broker_is_away() {
    let mut broker = Broker::start();
    broker.create_topic("requests", 4);
    let deployment = Deployment::new(&broker, Options::requests("lonely"));
    let sending = crate::crash::trickle(broker.producer(), 20_000, 4_000, |sender, index| {
        sender.send("requests", &traffic::record(index, 4));
    });
    let mut service = deployment.start();
    service.wait_records("requests", 6_000);
    sending.join().unwrap();
    traffic::send(&broker, "requests", 4, 20_000..40_000);
    broker.kill();
    // By then the workers wait for commits that do not end.
    std::thread::sleep(Duration::from_secs(8));
    let (status, body) = service.get("/readyz").unwrap();
    assert!(status == 503 && body.contains("the brokers"), "{status} {body}");
    service.give_up();
    broker.resume();
    deployment.run_through(&broker);
    store::assert_ids(&deployment.store(), (0..40_000).map(traffic::id));
    predictions::assert_agree(&broker, &deployment);
}

/// Records that retention took before they were read are counted, and the service goes on after them.
#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn records_deleted_before_they_were_read_are_counted() {
    let broker = Broker::start();
    broker.create_topic("requests", 2);
    let deployment = Deployment::new(&broker, Options::requests("late"));
    let mut service = deployment.start();
    traffic::send(&broker, "requests", 2, 0..2_000);
    service.wait_through(&broker, "requests");

    service.signal("STOP");
    // What the broker answers to the fetch that is under way arrives; all later records wait for the next one.
    traffic::send(&broker, "requests", 2, 2_000..2_010);
    std::thread::sleep(Duration::from_secs(2));
    traffic::send(&broker, "requests", 2, 2_010..12_000);
    broker.delete_records("requests", 5_000);
    service.signal("CONT");
    service.wait_through(&broker, "requests");
    traffic::send(&broker, "requests", 2, 12_000..14_000);
    service.wait_through(&broker, "requests");

    let metrics = service.get("/metrics").unwrap().1;
    let counted: i64 = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("larum_lost_records_total{partition=\"0\"} "))
        .map(|count| count.parse::<i64>().unwrap())
        .sum();
    service.stop();
    let rows = store::scored(&deployment.store());
    let of = |partition: i32| rows.keys().filter(|at| at.0 == partition).count() as i64;
    let ends = broker.ends("requests");
    assert_eq!((of(0) + counted, of(1)), (ends[&0], ends[&1]), "{counted} records were counted as lost");
    assert!(counted > 3_000, "{counted}");
}
