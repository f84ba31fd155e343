//! `[kafka]` and `[kafka.client]`: topics, brokers, the first start, and the options that larum must own.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::sections::not_empty;
use super::table::{Found, Table};
use super::{KafkaConfig, Start};

pub(super) fn kafka(root: &Table<'_>) -> KafkaConfig {
    let keys = ["brokers", "group", "events", "predictions", "labels", "label_log", "dead_letters", "start", "client"];
    let kafka = root.table("kafka", &keys);
    let events = kafka.parsed("events", topic);
    if !kafka.has("events") {
        kafka.missing("events", "the topic with the events, the one key without a default: events = \"requests\"");
    }
    let events = events.unwrap_or_default();
    let other = |key: &str, suffix: &str| kafka.parsed(key, topic).unwrap_or_else(|| format!("{events}.{suffix}"));
    let config = KafkaConfig {
        brokers: kafka.parsed("brokers", not_empty).unwrap_or_else(|| "localhost:9092".into()),
        group: kafka.parsed("group", not_empty).unwrap_or_else(|| format!("larum-{events}")),
        predictions: other("predictions", "scored"),
        labels: other("labels", "labels"),
        label_log: other("label_log", "label-log"),
        dead_letters: other("dead_letters", "dlq"),
        start: kafka.parsed("start", start).unwrap_or(Start::Latest),
        client: client(&kafka.any_table("client")),
        events,
    };
    let topics = [
        ("events", &config.events),
        ("predictions", &config.predictions),
        ("labels", &config.labels),
        ("label_log", &config.label_log),
        ("dead_letters", &config.dead_letters),
    ];
    for (i, (key, topic)) in topics.iter().enumerate() {
        if let Some((first, _)) = topics[..i].iter().find(|(_, other)| other == topic && !topic.is_empty()) {
            let help = "each of the five topics holds records of its own kind";
            kafka.wrong(key, format!("`{key}` is the same topic as `{first}`: {topic}"), "already taken", help);
        }
    }
    config
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "latest" => Ok(Start::Latest),
        "earliest" => Ok(Start::Earliest),
        time => match time.parse::<jiff::Timestamp>() {
            Ok(time) => Ok(Start::Time(time.as_millisecond())),
            Err(_) => Err("\"latest\", \"earliest\" or a time such as \"2026-01-31T08:00:00Z\"".into()),
        },
    }
}

fn topic(name: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=249).contains(&name.len()) && name.chars().all(legal) && name != "." && name != ".." {
        return Ok(name.to_owned());
    }
    Err("a topic's name is 1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`".into())
}

/// Why larum sets a librdkafka option itself, if it does.
fn owned(key: &str) -> Option<&'static str> {
    Some(match key {
        "bootstrap.servers" | "metadata.broker.list" => "set `brokers` in [kafka]",
        "group.id" => "set `group` in [kafka]",
        "group.instance.id" => "larum takes it from the store, so that a restart is no rebalance",
        "enable.auto.commit" | "auto.commit.enable" | "auto.commit.interval.ms" | "enable.auto.offset.store" => {
            "offsets are committed together with the scored rows; committed by themselves, a crash would lose events"
        }
        "auto.offset.reset" => {
            "recovery seeks to the snapshot's offset, and a reset would skip events silently: use `start`"
        }
        "enable.idempotence" | "acks" | "request.required.acks" => {
            "a commit relies on predictions that every in-sync replica has, once and in order"
        }
        "transactional.id" => "the commit is the store's transaction, not Kafka's",
        _ => return None,
    })
}

fn client(table: &Table<'_>) -> BTreeMap<String, String> {
    let mut client = BTreeMap::new();
    for (key, value) in table.in_order() {
        let key = Found { value: key.value.to_owned(), span: key.span };
        client_option(table, key, value, &mut client);
    }
    client
}

/// `security.protocol = "SSL"` without quotes is a table `security` in TOML: what is meant is clear, so its name is put together again.
fn client_option(
    table: &Table<'_>,
    key: Found<String>,
    value: Found<&DeValue<'_>>,
    client: &mut BTreeMap<String, String>,
) {
    if let DeValue::Table(inner) = value.value {
        for (name, below) in inner.iter() {
            let key = Found { value: format!("{}.{}", key.value, name.get_ref()), span: name.span() };
            client_option(table, key, Found { value: below.get_ref(), span: below.span() }, client);
        }
        return;
    }
    if let Some(reason) = owned(&key.value) {
        let message = format!("`{}` is not for [kafka.client] to set", key.value);
        table.document.problem(key.span, message, "larum sets it", reason);
        return;
    }
    let value = match value.value {
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        other => match table.string_of(&key.value, other, value.span) {
            Some(found) => found.value,
            None => return,
        },
    };
    client.insert(key.value, value);
}
