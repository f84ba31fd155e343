//! `larum train`: a file of labelled events goes to a running service, or straight to the label log where none runs.

use super::args::TrainArgs;
use super::label::{bar, base};
use super::{Usage, run::blueprint};
use crate::config::Config;
use crate::replay::Source;
use crate::service::{Columns, ContentKey, Progress, Upload, UploadKey, Uploaded, train};
use crate::telemetry;
use anyhow::{Context, anyhow, bail};
use crossbeam_channel::{RecvTimeoutError, after, bounded};
use indicatif::ProgressBar;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::time::Duration;
use ureq::{Agent, Body, SendBody, http::Response};

const REFUSED_SHOWN: usize = 10;
/// How often a task is asked how far it is, and a bar drawn.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// For an answer, once the file has been sent.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(60);
const BUFFER: usize = 1 << 16;

/// Teaches with the file, says what was accepted, and fails where a line was refused.
///
/// # Errors
/// A file that cannot be read, a service or brokers that are not there, or refused lines.
pub fn run(args: TrainArgs) -> anyhow::Result<()> {
    let uploaded = match &args.url {
        Some(url) => over_http(&args, url)?,
        None => to_label_log(&args)?,
    };
    report(&uploaded)
}

fn columns(args: &TrainArgs) -> Columns {
    Columns { label: args.label.clone(), time: args.time.clone(), entity: args.entity.clone(), id: args.id.clone() }
}

/// No service runs, or it need not know: the label log is what models are folded from.
fn to_label_log(args: &TrainArgs) -> anyhow::Result<Uploaded> {
    telemetry::init_logging("warn");
    let config = Config::load(&args.config)?;
    let blueprint = blueprint(&config)?;
    let mut file = open(&args.file)?;
    let columns = columns(args);
    let key = match &args.key {
        Some(key) => key.clone(),
        None => content_key(&mut file, &columns)?,
    };
    let source = Source::of(file, &name(&args.file));
    let upload = Upload::open(&source, &columns, key, &config, &blueprint);
    let upload = upload.map_err(|error| Usage(format!("{error:#}")))?;
    let bar = bar(1);
    let (progress, mut uploaded) = (Progress::default(), Uploaded::default());
    let trained = std::thread::scope(|scope| {
        let (done, waiting) = bounded::<()>(0);
        scope.spawn({
            let (bar, progress) = (&bar, &progress);
            move || {
                while waiting.recv_timeout(LOOK_AGAIN) == Err(RecvTimeoutError::Timeout) {
                    show(bar, progress.get());
                }
            }
        });
        let trained = train(&config, &blueprint, upload, &progress, &mut uploaded);
        drop(done);
        trained
    });
    bar.finish_and_clear();
    if let Err(error) = trained {
        let sent = format!("after {} rows, of which the label log has {}", uploaded.rows, uploaded.accepted);
        return Err(error.context(format!("{sent}: run it again, for a row that comes twice is learned once")));
    }
    Ok(uploaded)
}

/// Standard input is copied to a temporary file first, for its key is of all its bytes.
fn open(path: &Path) -> Result<File, Usage> {
    let failed = |error: std::io::Error| Usage(format!("cannot read {}: {error}", name(path)));
    if path != Path::new("-") {
        return File::open(path).map_err(failed);
    }
    let mut file = tempfile::tempfile().map_err(failed)?;
    std::io::copy(&mut std::io::stdin().lock(), &mut file).map_err(failed)?;
    file.rewind().map_err(failed)?;
    Ok(file)
}

fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

fn content_key(file: &mut File, columns: &Columns) -> anyhow::Result<UploadKey> {
    let (mut key, mut buffer) = (ContentKey::default(), vec![0; BUFFER]);
    loop {
        match file.read(&mut buffer).context("cannot read the file")? {
            0 => return Ok(key.finish(columns)),
            read => key.update(&buffer[..read]),
        }
    }
}

fn over_http(args: &TrainArgs, url: &str) -> anyhow::Result<Uploaded> {
    let base = base(url)?;
    let mut file = open(&args.file)?;
    let bytes = file.metadata().context("cannot read the file's size")?.len();
    let url = format!("{base}/v1/training-data");
    // An answer may come while the file is still being sent: it is too large, or too many come at once.
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_recv_response(Some(ANSWER_MAX))
        .timeout_recv_body(Some(ANSWER_MAX))
        .build()
        .into();
    let mut request = agent.post(&url).content_type(content_type(&mut file)?);
    request = request.header("content-length", bytes.to_string()).header("expect", "100-continue");
    let parameters = [
        ("key", args.key.as_ref().map(UploadKey::as_str)),
        ("label", Some(args.label.as_str())),
        ("time", args.time.as_deref()),
        ("entity", args.entity.as_deref()),
        ("id", args.id.as_deref()),
    ];
    for (parameter, value) in parameters {
        if let Some(value) = value {
            request = request.query(parameter, value);
        }
    }
    let bar = bar(bytes.max(1));
    bar.set_message("sending");
    let response = request.send(SendBody::from_reader(&mut bar.wrap_read(file)));
    let response = response.with_context(|| format!("no answer from {url}: does larum run there?"))?;
    let (status, mut task) = read(response, &url)?;
    let Some(id) = task["id"].as_str().filter(|_| status == 202).map(str::to_owned) else {
        bail!("{url} answered {status}: {}", message(&task));
    };
    let url = format!("{base}/v1/tasks/{id}");
    bar.set_message("learning");
    bar.set_position(0);
    while matches!(task["state"].as_str(), Some("queued" | "running")) {
        after(LOOK_AGAIN).recv().ok();
        let response = agent.get(&url).call().with_context(|| format!("no answer from {url} any more"))?;
        let (status, answer) = read(response, &url)?;
        if status == 404 {
            bail!("larum was restarted meanwhile: send the file again, for a row that comes twice is learned once");
        }
        task = answer;
        let count = |which: &str| task["progress"][which].as_u64().unwrap_or(0);
        show(&bar, (count("done"), count("total")));
    }
    bar.finish_and_clear();
    let uploaded: Uploaded = serde_json::from_value(task["result"].clone()).unwrap_or_default();
    if task["state"] != "done" {
        let why = task["error"].as_str().unwrap_or_else(|| message(&task));
        bail!("after {} rows, of which the label log has {}: {why}", uploaded.rows, uploaded.accepted);
    }
    Ok(uploaded)
}

/// By how the file begins: the service looks at no name.
fn content_type(file: &mut File) -> anyhow::Result<&'static str> {
    let mut start = Vec::new();
    file.take(1_024).read_to_end(&mut start).context("cannot read the file")?;
    file.rewind().context("cannot read the file")?;
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace() && ![0xef, 0xbb, 0xbf].contains(*byte));
    Ok(match first {
        Some(b'{') => "application/x-ndjson",
        _ if start.starts_with(&[0x1f, 0x8b]) => "application/gzip",
        _ => "text/csv",
    })
}

pub(super) fn read(mut response: Response<Body>, url: &str) -> anyhow::Result<(u16, Value)> {
    let text = response.body_mut().read_to_string().with_context(|| format!("the answer of {url} broke off"))?;
    Ok((response.status().as_u16(), serde_json::from_str(&text).unwrap_or_default()))
}

pub(super) fn message(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap_or("that is no answer of larum")
}

pub(super) fn show(bar: &ProgressBar, (done, total): (u64, u64)) {
    if total > 0 {
        bar.set_length(total);
        bar.set_position(done);
    }
}

fn report(uploaded: &Uploaded) -> anyhow::Result<()> {
    let Uploaded { key, rows, accepted, already, filtered, refused, refused_lines } = uploaded;
    if *rows == 0 {
        return Err(anyhow!("there is no row in it"));
    }
    println!(
        "{accepted} rows accepted ({already} of them before), {filtered} left out by the query, {refused} refused"
    );
    println!("upload {key}");
    for line in refused_lines.iter().take(REFUSED_SHOWN) {
        eprintln!("line {}: {}", line.line, line.reason);
    }
    let shown = refused_lines.len().min(REFUSED_SHOWN) as u64;
    if *refused > shown {
        eprintln!("and {} more", refused - shown);
    }
    if *refused > 0 {
        bail!("{refused} of {rows} rows were refused: upload these alone once they are mended, in a file of their own");
    }
    Ok(())
}
