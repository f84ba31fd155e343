//! `larum label`: a file of labels goes to a running service in pieces, and what it refuses is named by its line in the file.

use super::Usage;
use super::args::{LabelArgs, LabelFormat};
use crate::api::CsvLines;
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;
use ureq::Agent;

/// Labels of one request, at most.
const CHUNK_LINES: usize = 1_000;
/// Bytes of one request, at most: far below the service's default limit.
const CHUNK_BYTES: usize = 1 << 20;
const REJECTIONS_SHOWN: usize = 10;
const REQUEST_MAX: Duration = Duration::from_secs(120);

/// Sends the labels, prints what became of them, and fails where one was refused.
///
/// # Errors
/// A file that cannot be read, a service that is not there, or refused labels.
pub fn run(args: LabelArgs) -> anyhow::Result<()> {
    let format = format(&args)?;
    let url = format!("{}/v1/labels", base(&args.url)?);
    let name = if args.file == Path::new("-") { "standard input".to_owned() } else { args.file.display().to_string() };
    let (input, bytes): (Box<dyn Read>, u64) = if args.file == Path::new("-") {
        (Box::new(std::io::stdin().lock()), 0)
    } else {
        let file = File::open(&args.file).map_err(|error| Usage(format!("cannot read {name}: {error}")))?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        (Box::new(file), bytes)
    };
    let bar = bar(bytes);
    let mut upload = Upload { agent: agent(), url, chunk: Vec::new(), bytes: 0, tally: Tally::default() };
    let read = read(format, bar.wrap_read(input), &mut |line, text| upload.push(line, text));
    let sent = read
        .with_context(|| format!("after {} labels of {name}", upload.tally.accepted + upload.tally.rejected))
        .and_then(|()| upload.send());
    bar.finish_and_clear();
    sent?;
    upload.tally.report()
}

fn format(args: &LabelArgs) -> Result<LabelFormat, Usage> {
    let ending = || args.file.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    match (args.format, ending().as_deref()) {
        (Some(format), _) => Ok(format),
        (None, Some("json")) => Ok(LabelFormat::Json),
        (None, Some("ndjson" | "jsonl")) => Ok(LabelFormat::Ndjson),
        (None, Some("csv")) => Ok(LabelFormat::Csv),
        _ => Err(Usage(format!(
            "the ending of {} names no format: say --format json, ndjson or csv",
            args.file.display()
        ))),
    }
}

pub(super) fn base(url: &str) -> Result<&str, Usage> {
    if !url.starts_with("http://") {
        return Err(Usage(format!(
            "the service's URL is {url:?}, and must begin with http://, such as http://localhost:8080"
        )));
    }
    Ok(url.trim_end_matches('/'))
}

fn agent() -> Agent {
    Agent::config_builder().http_status_as_error(false).timeout_global(Some(REQUEST_MAX)).build().into()
}

/// Bytes read, on standard error, and nothing where that is no terminal. The length of a pipe is not known.
pub(super) fn bar(bytes: u64) -> ProgressBar {
    let (bar, style) = match bytes {
        0 => (ProgressBar::new_spinner(), "{spinner} {bytes} read, {elapsed}"),
        _ => (ProgressBar::new(bytes), "{bar:40} {msg} {bytes}/{total_bytes}, {eta} left"),
    };
    bar.with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Hands every label on as a line of NDJSON, with its line in the file; in a JSON array, its place. What is wrong inside a label is the service's to say.
fn read(
    format: LabelFormat,
    input: impl Read,
    label: &mut dyn FnMut(u64, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    match format {
        LabelFormat::Json => {
            let all: Value = serde_json::from_reader(BufReader::new(input)).context("it is no JSON")?;
            let Value::Array(labels) = all else { return label(1, all.to_string().as_bytes()) };
            for (value, place) in labels.iter().zip(1..) {
                label(place, value.to_string().as_bytes())?;
            }
        }
        LabelFormat::Ndjson => {
            for (text, line) in BufReader::new(input).split(b'\n').zip(1..) {
                let text = text?;
                if !text.trim_ascii().is_empty() {
                    label(line, text.trim_ascii())?;
                }
            }
        }
        LabelFormat::Csv => {
            let mut text = Vec::new();
            BufReader::new(input).read_to_end(&mut text)?;
            let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
            let mut numbers = CsvLines::new(text);
            let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
            let header = reader.headers()?.clone();
            for needed in ["event_id", "label"] {
                if !header.iter().any(|name| name == needed) {
                    bail!("its header does not name the column {needed}: event_id,label[,who,note,at]");
                }
            }
            for record in reader.records() {
                let record = record?;
                let cells = header.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
                let object: Map<String, Value> = cells.map(|(name, cell)| (name.to_owned(), cell.into())).collect();
                label(numbers.at(record.position()), Value::from(object).to_string().as_bytes())?;
            }
        }
    }
    Ok(())
}

/// What the service has said so far.
#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    unseen: u64,
    rejected: u64,
    /// The first of them, by line.
    rejections: Vec<(u64, String)>,
}

struct Upload {
    agent: Agent,
    url: String,
    /// Lines that wait to be sent: where they stand in the file, and their text.
    chunk: Vec<(u64, Vec<u8>)>,
    bytes: usize,
    tally: Tally,
}

impl Upload {
    fn push(&mut self, line: u64, text: &[u8]) -> anyhow::Result<()> {
        if self.chunk.len() == CHUNK_LINES || (self.bytes + text.len() > CHUNK_BYTES && !self.chunk.is_empty()) {
            self.send()?;
        }
        self.bytes += text.len();
        self.chunk.push((line, text.to_vec()));
        Ok(())
    }

    fn send(&mut self) -> anyhow::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let mut body = Vec::with_capacity(self.bytes + self.chunk.len());
        for (_, text) in &self.chunk {
            body.extend_from_slice(text);
            body.push(b'\n');
        }
        let response = self.agent.post(&self.url).content_type("application/x-ndjson").send(&body[..]);
        let mut response = response.with_context(|| format!("no answer from {}: does larum run there?", self.url))?;
        let status = response.status().as_u16();
        let text =
            response.body_mut().read_to_string().with_context(|| format!("the answer of {} broke off", self.url))?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let upload = match status {
            202 => &answer,
            422 => &answer["error"]["details"],
            _ => &Value::Null,
        };
        let Some(lines) = upload["lines"].as_array().filter(|lines| lines.len() == self.chunk.len()) else {
            let message = answer["error"]["message"].as_str().unwrap_or("that is no answer of larum");
            bail!("{} answered {status}: {message}", self.url);
        };
        for (line, (number, _)) in lines.iter().zip(&self.chunk) {
            if line["status"] == "accepted" {
                self.tally.accepted += 1;
                self.tally.unseen += u64::from(line["event"] != "known");
            } else {
                self.tally.rejected += 1;
                if self.tally.rejections.len() < REJECTIONS_SHOWN {
                    self.tally
                        .rejections
                        .push((*number, line["reason"].as_str().unwrap_or("no reason given").to_owned()));
                }
            }
        }
        self.chunk.clear();
        self.bytes = 0;
        Ok(())
    }
}

impl Tally {
    fn report(&self) -> anyhow::Result<()> {
        if self.accepted + self.rejected == 0 {
            bail!("there is no label in it");
        }
        println!(
            "{} labels accepted ({} of events not yet seen), {} rejected",
            self.accepted, self.unseen, self.rejected
        );
        for (line, reason) in &self.rejections {
            eprintln!("line {line}: {reason}");
        }
        let shown = self.rejections.len() as u64;
        if self.rejected > shown {
            eprintln!("and {} more", self.rejected - shown);
        }
        if self.rejected > 0 {
            bail!("{} of {} labels were rejected", self.rejected, self.accepted + self.rejected);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(format: LabelFormat, text: &str) -> anyhow::Result<Vec<(u64, Value)>> {
        let mut all = Vec::new();
        read(format, text.as_bytes(), &mut |line, text| {
            all.push((line, serde_json::from_slice(text)?));
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let label = |id: &str| serde_json::json!({"event_id": id, "label": "normal"});
        let csv = lines(LabelFormat::Csv, "\u{feff}event_id,label,note\r\na,normal,\r\n\"b\",normal,\r\n").unwrap();
        assert_eq!(csv, [(2, label("a")), (3, label("b"))]);
        let ndjson = "{\"event_id\":\"a\",\"label\":\"normal\"}\n\n{\"event_id\":\"b\",\"label\":\"normal\"}";
        assert_eq!(lines(LabelFormat::Ndjson, ndjson).unwrap(), [(1, label("a")), (3, label("b"))]);
        let json = "[{\"event_id\":\"a\",\"label\":\"normal\"},\n\n{\"event_id\":\"b\",\"label\":\"normal\"}]";
        assert_eq!(lines(LabelFormat::Json, json).unwrap(), [(1, label("a")), (2, label("b"))]);
        assert!(
            format!("{:#}", lines(LabelFormat::Csv, "id,label\na,normal").unwrap_err()).contains("column event_id")
        );
        assert!(lines(LabelFormat::Json, "[").is_err());
    }

    #[test]
    fn a_service_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels.csv");
        std::fs::write(&file, "event_id,label\na,normal\n").unwrap();
        // Port 1 of the loopback interface: nothing listens there.
        let args = LabelArgs { url: "http://127.0.0.1:1/".into(), file, format: None };
        let error = format!("{:#}", run(args).unwrap_err());
        assert!(error.starts_with("no answer from http://127.0.0.1:1/v1/labels: does larum run there?"), "{error}");
    }

    #[test]
    fn bad_usage_is_said_before_anything_is_sent() {
        let run = |url: &str, file: &str| {
            let error = run(LabelArgs { url: url.into(), file: file.into(), format: None }).unwrap_err();
            assert!(error.is::<Usage>(), "{error:#}");
            error.to_string()
        };
        assert!(run("localhost:8080", "a.csv").contains("http://"));
        assert!(run("http://localhost:8080", "a.txt").contains("--format"));
        assert!(run("http://localhost:8080", "no/such.csv").contains("cannot read"));
    }
}
