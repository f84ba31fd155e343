//! The arguments of every command, with their help. What a command does is in the file of its name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::text;
use crate::replay::Feedback;
use crate::service::UploadKey;

const STYLES: Styles =
    Styles::styled().header(AnsiColor::Green.on_default().bold()).literal(AnsiColor::Cyan.on_default());

/// Online anomaly detection for Kafka that learns from labels.
///
/// larum reads events from a topic, makes a feature vector of each with one SQL query, scores it with models that keep
/// learning, writes the scored event to a topic and a database, takes labels back and learns from them.
#[derive(Debug, Parser)]
#[command(name = "larum", version, styles = STYLES, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Start with `larum demo`: it needs no Kafka and no configuration.\n\
                        Exit codes: 0 done, 1 failed, 2 bad usage or configuration.")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(DemoArgs),
    Run(RunArgs),
    Check(CheckArgs),
    Replay(ReplayArgs),
    Generate(GenerateArgs),
    Label(LabelArgs),
    Train(TrainArgs),
    Models(ModelsArgs),
}

/// Show it: synthetic shop traffic with known incidents through an embedded broker
///
/// Runs the embedded broker, the generator, a simulated reviewer who labels alarms, and the service with its API. Nothing to
/// install, nothing to configure; everything it writes goes to a temporary folder.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  larum demo\n  larum demo --for 30s\n  larum demo --trained\n  larum demo --seed 7 --listen 127.0.0.1:8090"
)]
pub struct DemoArgs {
    /// Stop by itself after this time and print a summary [default: until Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Start with trained models instead of having the reviewer teach them from nothing
    #[arg(long)]
    pub trained: bool,
    /// Seed of the traffic, the reviewer and the models
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Where the HTTP API listens; port 0 takes a free one [default: 127.0.0.1:8080, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    pub listen: Option<SocketAddr>,
}

/// Run the service
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  larum run\n  larum run -c /etc/larum/larum.toml\n  RUST_LOG=larum=debug larum run -c larum.toml"
)]
pub struct RunArgs {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "larum.toml")]
    pub config: PathBuf,
}

/// Validate the configuration and print the compiled feature query
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  larum check -c larum.toml\n  larum check -c larum.toml --connect")]
pub struct CheckArgs {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "larum.toml")]
    pub config: PathBuf,
    /// Also reach the brokers, the topics and the store
    #[arg(long)]
    pub connect: bool,
}

/// Score a file with the same engine, without Kafka
///
/// Reads CSV with a header, or NDJSON, either also gzipped. Without a configuration every numeric column is a feature and every
/// text column a category; with one, its tables event, features, models and decision are used.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    larum replay -i http.csv.gz --label label\n  \
    larum replay -i events.csv --label fraud --label-delay 1000 --label-rate 0.1 -o scores.csv --report report.json\n  \
    larum replay -i cases.csv --label fraud --feedback 100/all --refit 1\n  \
    larum generate --events 100000 --truth | larum replay -c larum.toml -i - --label anomaly")]
pub struct ReplayArgs {
    /// A CSV or NDJSON file, or - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub input: PathBuf,
    /// The configuration whose event, features, models and decision are used [default: every column is a feature]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The column with the truth: 0 or 1. It is no feature
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// The column with the event time. It is no feature. With at most eight numeric columns beside it, and no configuration, the file is taken as a
    /// series: features of the recent past and of a day ago are added, and it alarms at a score of 0.46, once an hour, or once a day in a
    /// file of more than a day
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,
    /// The column with the entity. It is no feature
    #[arg(long, value_name = "COLUMN")]
    pub entity: Option<String>,
    /// The column with the event id. It is no feature
    #[arg(long, value_name = "COLUMN")]
    pub id: Option<String>,
    /// Give the label of row i back after row i + N has been scored; 0: before row i + 1 [default: no labels are given]
    #[arg(long, value_name = "N", requires = "label")]
    pub label_delay: Option<u64>,
    /// Let a reviewer choose what is labelled, by what has been learned so far: 20/1024 of every 1,024 rows, 100/all one by one from the whole file once it is
    /// scored
    #[arg(long, value_name = "N/ROWS", value_parser = feedback, requires = "label", conflicts_with = "label_delay")]
    pub feedback: Option<Feedback>,
    /// Refit the models that learn from labels after every N labels. A refitted model takes over when it proves better on the newest; where a reviewer
    /// chooses, at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub refit: Option<u64>,
    /// Give back only this share of the labels, chosen by the seed
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share, requires = "label_delay")]
    pub label_rate: f64,
    /// Leave the first N rows out of the report; they are scored all the same
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub warmup: u64,
    /// Write a line per scored event: row, event_id, score, p_value, alarm, model_version, and score:NAME of each model
    #[arg(short, long, value_name = "CSV")]
    pub output: Option<PathBuf>,
    /// Write the figures: rows, events per second, alarms, AUC, average precision ...
    #[arg(long, value_name = "JSON")]
    pub report: Option<PathBuf>,
    /// Seed of every draw [default: the configuration's, or 1]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Write synthetic shop traffic to a file, standard output or a topic
///
/// The same seed gives the same bytes. About 1 % of the events belong to incidents, and as many to harmless oddities such as a
/// nightly batch job; --truth says which.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    larum generate --events 1000000 -o shop.ndjson\n  \
    larum generate --events 100000 --truth | gzip > shop.ndjson.gz\n  \
    larum generate --brokers localhost:9092 --topic requests --rate 1000/s --events 1000000\n  \
    larum generate --config > larum.toml")]
pub struct GenerateArgs {
    /// How many events
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub events: u64,
    /// Seed of the traffic
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// A file to write to, or - for standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Produce to this cluster instead
    #[arg(long, value_name = "HOST:PORT", requires = "topic", conflicts_with = "output")]
    pub brokers: Option<String>,
    /// The topic to produce to; made with 4 partitions if it does not exist
    #[arg(long, value_name = "TOPIC", requires = "brokers")]
    pub topic: Option<String>,
    /// At most so many events a second [default: as fast as possible]
    #[arg(long, value_name = "N/s", value_parser = events_per_second)]
    pub rate: Option<f64>,
    /// Add what is true: `anomaly` (0 or 1), `incident` and `oddity`
    #[arg(long)]
    pub truth: bool,
    /// Write the configuration that fits this traffic instead of events
    #[arg(long, exclusive = true)]
    pub config: bool,
}

/// Upload labels to a running service
///
/// A label has `event_id` and `label` (anomaly or normal), and optionally `who`, `at` and `note`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    larum label -u http://localhost:8080 labels.csv\n  \
    larum label -u http://localhost:8080 --format ndjson - < labels.ndjson")]
pub struct LabelArgs {
    /// The service
    #[arg(short, long, value_name = "URL")]
    pub url: String,
    /// A file with labels, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// [default: by the file's ending]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<LabelFormat>,
}

/// Teach with a file of labelled events that never went through Kafka
///
/// Reads CSV with a header, or NDJSON, either also gzipped: the fields of the configuration, and a column with the truth. Features are made of the
/// rows in the order of the file. Without a URL the examples are written to the label log, and no service need run: the next one to start has
/// learned them before its first event. Sending a file again does no harm: a row is learned once for its key and its place in the file.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    larum train -c larum.toml cases.csv\n  \
    larum train -c larum.toml --label fraud --time at cases.csv.gz\n  \
    larum train -u http://localhost:8080 --key cases-2025 cases.ndjson")]
pub struct TrainArgs {
    /// A CSV or NDJSON file, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Send it to this running service
    #[arg(short, long, value_name = "URL", conflicts_with = "config")]
    pub url: Option<String>,
    /// The configuration, where no service is asked
    #[arg(short, long, value_name = "FILE", default_value = "larum.toml")]
    pub config: PathBuf,
    /// What the file is known by: rows of the same key are learned once [default: a hash of the file]
    #[arg(long, value_name = "KEY", value_parser = UploadKey::parse)]
    pub key: Option<UploadKey>,
    /// The column with the truth: 0 or 1, false or true, normal or anomaly
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    pub label: String,
    /// The column with the event time [default: the configuration's]
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,
    /// The column with the entity [default: the configuration's]
    #[arg(long, value_name = "COLUMN")]
    pub entity: Option<String>,
    /// The column with the event id, for a query that reads it [default: the configuration's]
    #[arg(long, value_name = "COLUMN")]
    pub id: Option<String>,
}

/// List, refit, roll back and export the models of a running service
///
/// A refit is fitted to all labels at once and takes over only when it is better on the newest ones. Every version goes on learning, so that a
/// rollback loses no label.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    larum models list\n  \
    larum models -u http://localhost:8080 show logistic_regression\n  \
    larum models retrain svm --dry-run\n  \
    larum models retrain svm\n  \
    larum models versions svm\n  \
    larum models rollback svm\n  \
    larum models promote svm 4711\n  \
    larum models export svm -o svm.json")]
pub struct ModelsArgs {
    /// The service
    #[arg(short, long, value_name = "URL", default_value = "http://localhost:8080", global = true)]
    pub url: String,
    #[command(subcommand)]
    pub command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// What is configured, and how far it has learned
    List,
    /// One model, with its parameters by feature
    Show {
        #[arg(value_name = "MODEL")]
        name: String,
    },
    /// The kept versions of a model, and how well each has done
    Versions {
        #[arg(value_name = "MODEL")]
        name: String,
    },
    /// Refit a model to all labels; it takes over if it is better
    Retrain {
        #[arg(value_name = "MODEL")]
        name: String,
        /// Compare only
        #[arg(long)]
        dry_run: bool,
    },
    /// Let a kept version score
    Promote {
        #[arg(value_name = "MODEL")]
        name: String,
        #[arg(value_name = "VERSION")]
        version: i64,
    },
    /// Let an earlier version score again
    Rollback {
        #[arg(value_name = "MODEL")]
        name: String,
        /// 0 is the one that was never refitted [default: the one before]
        #[arg(value_name = "VERSION")]
        version: Option<i64>,
    },
    /// Write the version that scores as JSON
    Export {
        #[arg(value_name = "MODEL")]
        name: String,
        /// [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// How a file of labels is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LabelFormat {
    /// One array
    Json,
    /// One object per line
    Ndjson,
    /// With a header
    Csv,
}

fn duration(value: &str) -> Result<Duration, String> {
    text::duration_ms(value).map(|ms| Duration::from_millis(ms.unsigned_abs()))
}

fn loopback(value: &str) -> Result<SocketAddr, String> {
    match value.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        Ok(_) => Err("without tokens larum listens on loopback only: 127.0.0.1:8080".into()),
        Err(_) => Err("an address and a port: 127.0.0.1:8080".into()),
    }
}

fn share(value: &str) -> Result<f64, String> {
    match value.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1".into()),
    }
}

fn feedback(value: &str) -> Result<Feedback, String> {
    let wrong = || "a number of labels and of rows, like 20/1024, or 100/all".to_owned();
    let (labels, rows) = value.split_once('/').ok_or_else(wrong)?;
    let count = |text: &str| text.parse().ok().filter(|count| *count > 0).ok_or_else(wrong);
    let labels = count(labels)?;
    Ok(if rows == "all" { Feedback::Pool { labels } } else { Feedback::Windows { labels, rows: count(rows)? } })
}

fn events_per_second(value: &str) -> Result<f64, String> {
    text::rate(value).map(|(count, per_ms)| count / per_ms * 1_000.0)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{}: {help}", command.get_name());
            // An example that does not parse teaches a mistake.
            for line in help.lines().skip(1) {
                let words =
                    line.split(['|', '<', '>']).next().unwrap().split_whitespace().skip_while(|w| *w != "larum");
                Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
    }

    #[test]
    fn values_are_checked() {
        let refused = |line: &str| Cli::try_parse_from(line.split(' ')).map(|_| ()).unwrap_err().to_string();
        assert!(refused("larum demo --for 30").contains("30s"));
        assert!(refused("larum demo --listen 0.0.0.0:80").contains("loopback"));
        assert!(refused("larum replay -i a.csv --label-delay 3").contains("--label"));
        assert!(refused("larum replay -i a.csv --label x --label-delay 3 --label-rate 2").contains("from 0 to 1"));
        assert!(refused("larum generate --topic t").contains("--brokers"));
        assert!(refused("larum generate --rate 5").contains("5/hour"));
    }
}
