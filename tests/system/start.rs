//! Where a first start begins, and that `start` means nothing afterwards.

use crate::kafka::Broker;
use crate::larum::{Deployment, Options};
use crate::{store, traffic};

const PARTITIONS: i32 = 3;

fn first_start(start: &str, expected: std::ops::Range<u64>) {
    let broker = Broker::start();
    broker.create_topic("requests", PARTITIONS);
    traffic::send(&broker, "requests", PARTITIONS, 0..3_000);
    let options = Options { start: start.to_owned(), ..Options::requests("starting") };
    let deployment = Deployment::new(&broker, options);
    let mut service = deployment.start();
    traffic::send(&broker, "requests", PARTITIONS, 3_000..5_000);
    service.wait_through(&broker, "requests");
    service.stop();
    store::assert_ids(&deployment.store(), expected.clone().map(traffic::id));

    // While the service is away more comes in: no start may skip it or go back.
    traffic::send(&broker, "requests", PARTITIONS, 5_000..6_000);
    deployment.run_through(&broker);
    store::assert_ids(&deployment.store(), (expected.start..6_000).map(traffic::id));
}

#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn latest_begins_with_what_comes_next() {
    first_start("latest", 3_000..5_000);
}

#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn earliest_begins_with_the_first_record() {
    first_start("earliest", 0..5_000);
}

#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn a_time_begins_with_the_first_record_not_before_it() {
    let time = jiff::Timestamp::from_millisecond(traffic::time_ms(1_234)).unwrap();
    first_start(&time.to_string(), 1_234..5_000);
}
