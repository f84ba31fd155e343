//! `larum check`: whether a configuration would run, and what it means.

use super::args::CheckArgs;
use super::run::blueprint;
use crate::config::{Config, StoreConfig};
use crate::decision::Direction;
use crate::kafka::{Client, Topics};
use crate::suggest::nearest;
use anyhow::bail;
use std::io::Write;

pub fn run(args: CheckArgs) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let blueprint = blueprint(&config)?;
    let mut out = std::io::stdout().lock();
    let kafka = &config.kafka;
    writeln!(out, "events       {} on {} (group {})", kafka.events, kafka.brokers, kafka.group)?;
    writeln!(out, "predictions  {}", kafka.predictions)?;
    writeln!(out, "labels       {} -> {}", kafka.labels, kafka.label_log)?;
    writeln!(out, "dead letters {}", kafka.dead_letters)?;
    writeln!(out, "entity       {}", config.event.entity.as_deref().unwrap_or("the key of the Kafka record"))?;
    let event = &config.event;
    let declared = || event.fields.iter().map(|field| field.name.as_str());
    for (role, name) in [("id", &event.id), ("time", &event.time), ("entity", &event.entity)] {
        let Some(name) = name.as_deref().filter(|name| !declared().any(|field| field == *name)) else { continue };
        let hint = nearest(name, declared()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        writeln!(
            out,
            "note         {role} `{name}` is not in [event.fields]: an event without it is a dead letter{hint}"
        )?;
    }
    for model in &blueprint.models {
        writeln!(out, "model        {} ({})", model.name, model.settings())?;
    }
    writeln!(out, "alarm        {}", config.decision)?;
    if config.quiet.period_ms > 0 {
        let seconds = config.quiet.period_ms as f64 / 1_000.0;
        writeln!(
            out,
            "quiet        an entity for {seconds} s of event time after its alarm, but for what is much stranger"
        )?;
    }
    for rule in &config.quiet.features {
        let direction = match rule.direction {
            Direction::Up => "down, or up",
            Direction::Down => "up, or down",
            Direction::Both => "up or down",
        };
        writeln!(
            out,
            "quiet        {} {direction} by less than {} or {} % of its expected value",
            rule.feature,
            rule.min_change,
            rule.min_relative_change * 100.0
        )?;
    }
    writeln!(out, "refits       {}", config.learning.refit)?;
    writeln!(out, "store        {} (keeps {} of ordinary rows)", config.store.url, config.store.keep)?;
    writeln!(out, "\n{}", blueprint.plan)?;
    if args.connect {
        connect(&mut out, &config)?;
    }
    writeln!(out, "\nok")?;
    Ok(())
}

fn connect(out: &mut impl Write, config: &Config) -> anyhow::Result<()> {
    let kafka = &config.kafka;
    let topics = Topics::new(&Client::new(&kafka.brokers, &kafka.client))?;
    let mut problems = Vec::new();
    writeln!(out)?;
    for (topic, owned) in [
        (&kafka.events, false),
        (&kafka.predictions, true),
        (&kafka.labels, true),
        (&kafka.label_log, true),
        (&kafka.dead_letters, true),
    ] {
        match topics.partitions(topic)? {
            0 if owned => writeln!(out, "topic {topic}: not there yet; `larum run` creates it")?,
            0 => {
                problems.push(format!("topic {topic:?} ([kafka] events) does not exist: create it, or check the name"))
            }
            n => writeln!(out, "topic {topic}: {n} partitions")?,
        }
    }
    if topics.partitions(&kafka.label_log)? > 0 {
        for issue in topics.label_log_issues(&kafka.label_log)? {
            problems.push(format!("topic {:?} would forget labels: {}", issue.topic, issue.what));
        }
    }
    match store_directory(&config.store) {
        Ok(at) => writeln!(out, "store {at}: its directory can be written to")?,
        Err(problem) => problems.push(problem),
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n       "));
    }
    Ok(())
}

/// Opening the store would make it, or wait for the service that has it: the check looks at its place only.
fn store_directory(store: &StoreConfig) -> Result<String, String> {
    let path = store.url.strip_prefix("sqlite:").unwrap_or(&store.url);
    if path == ":memory:" {
        return Ok(path.into());
    }
    let parent = std::path::Path::new(path).parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(".".as_ref());
    match tempfile::tempfile_in(parent) {
        Ok(_) => Ok(path.into()),
        Err(error) => Err(format!("the store's directory {:?} cannot be written to: {error}", parent.display())),
    }
}
