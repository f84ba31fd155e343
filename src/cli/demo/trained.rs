//! `--trained`: models that were fitted to another seed of the shop, promoted in the label log before the service reads it.

use anyhow::Context as _;

use crate::kafka::{Client, Outbox, Produced};
use crate::wire::promotion_to_label_log;

/// By their names in the shop's configuration. `models/README.md` says how they are made.
const MODELS: [(&str, &str); 2] = [
    ("logistic", include_str!("../../../models/shop/logistic.json")),
    ("svm", include_str!("../../../models/shop/svm.json")),
];

/// Writes the promotions, and waits for Kafka to have them.
pub(super) fn promote(client: &Client, label_log: &str) -> anyhow::Result<()> {
    let mut sender = Outbox::open(client)?.sender();
    for (model, artifact) in MODELS {
        // No label of this log was among those that it was fitted to.
        for record in promotion_to_label_log(model, artifact.as_bytes(), 0) {
            sender.send(Produced {
                topic: label_log,
                key: None,
                payload: Some(&record),
                timestamp_ms: -1,
                headers: None,
            })?;
        }
    }
    sender.close().wait(|| false).context("the label log did not take the trained models")
}
