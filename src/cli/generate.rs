//! `larum generate`: the synthetic shop as NDJSON in a file or on standard output, as records of a topic, or its configuration.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::{ProgressBar, ProgressStyle};

use super::args::GenerateArgs;
use crate::kafka::{Client, Outbox, Produced, Sender, Topics};
use crate::shop::{START_MS, Shop, larum_toml};
use crate::telemetry;

/// Events between two looks at the clock and the bar; with a rate, a twentieth of a second's worth.
const STEP: u64 = 1_000;
/// Of a topic that is not there yet.
const PARTITIONS: u32 = 4;

/// # Errors
/// A file that cannot be written, or a cluster that does not take the events. A reader that closes the pipe early is none.
pub fn run(args: GenerateArgs) -> anyhow::Result<()> {
    if args.config {
        return forgive_closed_pipe(io::stdout().write_all(larum_toml().as_bytes())).context("writing standard output");
    }
    if let (Some(brokers), Some(topic)) = (&args.brokers, &args.topic) {
        return send_events(&args, brokers, topic);
    }
    let name = args.output.display().to_string();
    let to_stdout = args.output == Path::new("-");
    let written = if to_stdout {
        write_events(&args, BufWriter::with_capacity(1 << 20, io::stdout().lock())).map(drop)
    } else {
        let file = File::create(&args.output).with_context(|| format!("creating {name}"))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        if args.output.extension().is_some_and(|ending| ending == "gz") {
            write_events(&args, GzEncoder::new(file, Compression::default()))
                .and_then(GzEncoder::finish)
                .and_then(|mut file| file.flush())
        } else {
            write_events(&args, file).map(drop)
        }
    };
    forgive_closed_pipe(written)
        .with_context(|| format!("writing {}", if to_stdout { "standard output" } else { &name }))
}

/// Where events go.
trait Sink {
    type Error;

    fn take(&mut self, host: &str, json: &[u8]) -> Result<(), Self::Error>;

    /// Called before a wait: nobody should have to wait for what is there.
    fn pause(&mut self) -> Result<(), Self::Error>;
}

struct Lines<W>(W);

impl<W: Write> Sink for Lines<W> {
    type Error = io::Error;

    fn take(&mut self, _host: &str, json: &[u8]) -> io::Result<()> {
        self.0.write_all(json)?;
        self.0.write_all(b"\n")
    }

    fn pause(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct Records<'a> {
    sender: Sender,
    topic: &'a str,
}

impl Sink for Records<'_> {
    type Error = anyhow::Error;

    /// The host is the key, so that its requests stay in order, in one partition.
    fn take(&mut self, host: &str, json: &[u8]) -> anyhow::Result<()> {
        self.sender.send(Produced {
            topic: self.topic,
            key: Some(host.as_bytes()),
            payload: Some(json),
            timestamp_ms: telemetry::now_ms(),
            headers: None,
        })
    }

    fn pause(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Produces every event and waits until the cluster has acknowledged them all.
fn send_events(args: &GenerateArgs, brokers: &str, topic: &str) -> anyhow::Result<()> {
    telemetry::init_logging("warn");
    let client = Client::new(brokers, &BTreeMap::new());
    let made = Topics::new(&client)?.ensure(topic, PARTITIONS, &[])?;
    let mut records = Records { sender: Outbox::open(&client)?.sender(), topic };
    each_event(args, &mut records)?;
    records.sender.close().wait(|| false)?;
    let new = if made { format!(", made with {PARTITIONS} partitions") } else { String::new() };
    eprintln!("{} events are in topic {topic:?}{new}", args.events);
    Ok(())
}

/// Writes a line per event and flushes; gives the writer back for whoever must finish it.
fn write_events<W: Write>(args: &GenerateArgs, out: W) -> io::Result<W> {
    let mut lines = Lines(out);
    each_event(args, &mut lines)?;
    lines.0.flush()?;
    Ok(lines.0)
}

/// Every event, at the rate that was asked for, with progress on standard error; nothing where that is no terminal.
fn each_event<S: Sink>(args: &GenerateArgs, sink: &mut S) -> Result<(), S::Error> {
    let style = "{bar:40} {human_pos}/{human_len} events, {per_sec}, {eta} left";
    let bar = ProgressBar::new(args.events)
        .with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    // Nobody sends: waiting on it is a sleep that a later stop signal can end.
    let (_silent, pause) = mpsc::channel::<()>();
    let step = args.rate.map_or(STEP, |rate| ((rate / 20.0) as u64).clamp(1, STEP));
    let mut json = Vec::with_capacity(512);
    for (event, count) in Shop::new(args.seed, START_MS).events().zip(0..args.events) {
        if count % step == 0 {
            bar.set_position(count);
            if let Some(rate) = args.rate {
                let due = Duration::try_from_secs_f64(count as f64 / rate).unwrap_or(Duration::MAX);
                if let Some(early) = due.checked_sub(bar.elapsed()) {
                    sink.pause()?;
                    if pause.recv_timeout(early).is_ok() {
                        break;
                    }
                }
            }
        }
        json.clear();
        if args.truth {
            event.write_json_with_truth(&mut json)
        } else {
            event.write_json(&mut json)
        }
        sink.take(event.host, &json)?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// `larum generate | head` has done what was asked.
fn forgive_closed_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use clap::Parser as _;

    use super::super::args::{Cli, Command};
    use super::*;

    fn generate(line: &str) -> GenerateArgs {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Generate(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_with_and_without_truth() {
        let plain = write_events(&generate("larum generate --events 100"), Vec::new()).unwrap();
        let plain = String::from_utf8(plain).unwrap();
        assert_eq!(plain.lines().count(), 100);
        assert!(!plain.contains("anomaly"));
        let truth = write_events(&generate("larum generate --events 100 --truth"), Vec::new()).unwrap();
        assert!(String::from_utf8(truth).unwrap().lines().all(|line| line.contains(r#""anomaly":"#)));
    }

    #[test]
    fn a_rate_is_kept() {
        let bar = ProgressBar::hidden();
        write_events(&generate("larum generate --events 60 --rate 200/s"), Vec::new()).unwrap();
        assert!(bar.elapsed() >= Duration::from_millis(240), "{:?}", bar.elapsed());
    }

    #[test]
    fn a_gz_file_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.ndjson.gz");
        run(generate(&format!("larum generate --events 5000 -o {}", path.display()))).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 5_000);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert!(forgive_closed_pipe(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(forgive_closed_pipe(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
