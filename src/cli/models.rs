//! `larum models`: what a running service has learned, refits, and versions that take over from each other.

use super::Usage;
use super::args::{ModelsArgs, ModelsCommand};
use super::label::base;
use super::train::{ANSWER_MAX, LOOK_AGAIN, message, read, show};
use crate::service::{RefitChange, Retrained};
use anyhow::{Context, bail};
use crossbeam_channel::after;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use ureq::Agent;

/// How often a new version is looked for, once it was asked for: 10 s in all.
const LOOKS_MAX: u32 = 50;

/// Does what the subcommand says.
///
/// # Errors
/// A service that is not there, what it refuses, or a refit that failed.
pub fn run(args: ModelsArgs) -> anyhow::Result<()> {
    let agent = Agent::config_builder().http_status_as_error(false).timeout_global(Some(ANSWER_MAX)).build().into();
    let client = Client { agent, base: base(&args.url)?.to_owned() };
    match &args.command {
        ModelsCommand::List => list(&client),
        ModelsCommand::Show { name } => one(&client, name),
        ModelsCommand::Versions { name } => versions(&client, name),
        ModelsCommand::Retrain { name, dry_run } => retrain(&client, name, *dry_run),
        ModelsCommand::Promote { name, version } => activate(&client, name, "promote", Some(*version)),
        ModelsCommand::Rollback { name, version } => activate(&client, name, "rollback", *version),
        ModelsCommand::Export { name, output } => export(&client, name, output.as_deref()),
    }
}

/// One service.
struct Client {
    agent: Agent,
    base: String,
}

impl Client {
    /// The answer to a GET, which must be 200.
    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        let response = self.agent.get(&url).call().with_context(|| no_answer(&url))?;
        expect(200, read(response, &url)?, &url)
    }

    /// The answer to a POST, which must be 202.
    fn post(&self, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        let request = self.agent.post(&url);
        let response = match body {
            Some(body) => request.content_type("application/json").send(body.to_string()),
            None => request.send_empty(),
        };
        expect(202, read(response.with_context(|| no_answer(&url))?, &url)?, &url)
    }
}

fn no_answer(url: &str) -> String {
    format!("no answer from {url}: does larum run there?")
}

fn expect(status: u16, (answered, answer): (u16, Value), url: &str) -> anyhow::Result<Value> {
    if answered != status {
        bail!("{url} answered {answered}: {}", message(&answer));
    }
    Ok(answer)
}

fn path(name: &str) -> Result<String, Usage> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
        return Err(Usage(format!("{name:?} is no name of a model: `larum models list` shows them")));
    }
    Ok(format!("/v1/models/{name}"))
}

fn list(client: &Client) -> anyhow::Result<()> {
    let answer = client.get("/v1/models")?;
    let mut rows = vec![["MODEL", "KIND", "LEARNS FROM", "READY", "ANOMALIES", "NORMALS"].map(str::to_owned)];
    for model in answer["models"].as_array().into_iter().flatten() {
        let labels = &model["labels"];
        rows.push([
            text(&model["name"]),
            text(&model["kind"]),
            text(&model["learns_from"]),
            yes(&model["ready"]),
            text(&labels["anomalies"]),
            text(&labels["normals"]),
        ]);
    }
    print(&table(&rows))
}

fn one(client: &Client, name: &str) -> anyhow::Result<()> {
    let model = client.get(&path(name)?)?;
    let mut out = format!(
        "{} ({}), learns from {}, {}\n",
        text(&model["name"]),
        text(&model["kind"]),
        text(&model["learns_from"]),
        if model["ready"] == true { "ready" } else { "not ready yet" }
    );
    if let Some(labels) = model["labels"].as_object() {
        out.push_str(&format!("{} anomalies and {} normals learned\n", labels["anomalies"], labels["normals"]));
    }
    let mut rows = vec![["PARTITION", "OFFSET", "READY", "SEEN", "NEEDED"].map(str::to_owned)];
    for partition in model["partitions"].as_array().into_iter().flatten() {
        let of = |key: &str| text(&partition[key]);
        rows.push([of("partition"), of("offset"), yes(&partition["ready"]), of("seen"), of("needed")]);
    }
    out.push_str(&format!("\n{}", table(&rows)));
    // A label learner has its own, a detector those of each partition.
    let of_partitions = model["partitions"].as_array().into_iter().flatten();
    let of_partitions =
        of_partitions.map(|partition| (format!("partition {}", partition["partition"]), &partition["parameters"]));
    for (title, parameters) in std::iter::once((String::new(), &model["parameters"])).chain(of_partitions) {
        let Some(parameters) = parameters.as_object().filter(|parameters| !parameters.is_empty()) else { continue };
        let mut rows = vec![["PARAMETER".to_owned(), "VALUE".to_owned()]];
        rows.extend(parameters.iter().map(|(name, value)| [name.clone(), number(value)]));
        out.push_str(&format!("\n{title}{}{}", if title.is_empty() { "" } else { "\n" }, table(&rows)));
    }
    print(&out)
}

fn versions(client: &Client, name: &str) -> anyhow::Result<()> {
    let answer = client.get(&format!("{}/versions", path(name)?))?;
    print(&table(&version_rows(&answer)))
}

fn version_rows(answer: &Value) -> Vec<[String; 5]> {
    let mut rows = vec![["VERSION", "SCORES", "LABELS SINCE", "LOG LOSS", "PROMOTED"].map(str::to_owned)];
    for version in answer["versions"].as_array().into_iter().flatten() {
        let promoted =
            if version["version"] == 0 { "online, never refitted".into() } else { text(&version["promoted_at"]) };
        rows.push([
            text(&version["version"]),
            yes(&version["active"]),
            text(&version["labels"]),
            number(&version["log_loss"]),
            promoted,
        ]);
    }
    rows
}

fn retrain(client: &Client, name: &str, dry_run: bool) -> anyhow::Result<()> {
    let mut task = client.post(&format!("{}/retrain?dry_run={dry_run}", path(name)?), None)?;
    let url = format!("/v1/tasks/{}", task["id"].as_str().unwrap_or_default());
    let style = ProgressStyle::with_template("{bar:40} {msg} {percent} %, {elapsed}");
    let bar = ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    while matches!(task["state"].as_str(), Some("queued" | "running")) {
        bar.set_message(if task["state"] == "queued" { "waiting" } else { "fitting" });
        after(LOOK_AGAIN).recv().ok();
        task = client.get(&url).context("the refit may have ended all the same: the versions tell")?;
        let count = |which: &str| task["progress"][which].as_u64().unwrap_or(0);
        show(&bar, (count("done"), count("total")));
    }
    bar.finish_and_clear();
    let retrained = serde_json::from_value::<Retrained>(task["result"].clone());
    match (task["state"].as_str(), retrained) {
        (Some("done"), Ok(retrained)) => print(&report(&retrained)),
        _ => bail!("{}", task["error"].as_str().unwrap_or("the service's answer is none of larum")),
    }
}

fn report(retrained: &Retrained) -> String {
    let Retrained { model, version, why, labels, champion, challenger, alarms, .. } = retrained;
    let held_out = labels.held_out_anomalies + labels.held_out_normals;
    let row = |name: &str, old: f64, new: f64, change: &RefitChange, better: &str| {
        let RefitChange { low, mean, high } = change;
        [
            name.to_owned(),
            format!("{old:.3}"),
            format!("{new:.3}"),
            format!("{mean:+.3}"),
            format!("{low:+.3} to {high:+.3}"),
            better.to_owned(),
        ]
    };
    let rows = [
        ["", "SCORES NOW", "REFITTED", "CHANGE", "WITH 95 %", ""].map(str::to_owned),
        row("log loss", champion.log_loss, challenger.log_loss, &retrained.log_loss_change, "lower is better"),
        row(
            "average precision",
            champion.average_precision,
            challenger.average_precision,
            &retrained.average_precision_change,
            "higher is better",
        ),
    ];
    let mut out = format!(
        "{model}: fitted to {} labels, compared on the {held_out} newest ({} anomalies, {} normals)\n\n{}\n",
        labels.fitted,
        labels.held_out_anomalies,
        labels.held_out_normals,
        table(&rows)
    );
    out.push_str(&match (alarms.rows, alarms.lost + alarms.kept) {
        (0, _) => "no event of the last day is stored: nothing is known of its alarms\n".to_owned(),
        (rows, 0) => format!("none of the {rows} events of the last day has alarmed\n"),
        (rows, all) => format!(
            "of the {all} alarms in {rows} events of the last day it would keep {}, lose {} and gain {}\n",
            alarms.kept, alarms.lost, alarms.gained
        ),
    });
    out.push_str(&format!("{why}\n"));
    match version {
        Some(version) => {
            out.push_str(&format!("version {version} scores now; `larum models rollback {model}` takes it back\n"))
        }
        None if retrained.promoted => out.push_str("the label log has it; the service has not read it yet\n"),
        None => {}
    }
    out
}

fn activate(client: &Client, name: &str, how: &str, version: Option<i64>) -> anyhow::Result<()> {
    let path = path(name)?;
    let activated = client.post(&format!("{path}/{how}"), version.map(|version| json!({ "version": version })))?;
    let (version, before) = (&activated["version"], &activated["before"]);
    for _ in 0..LOOKS_MAX {
        let answer = client.get(&format!("{path}/versions"))?;
        let mut versions = answer["versions"].as_array().into_iter().flatten();
        if versions.any(|known| known["active"] == true && known["version"] == *version) {
            return print(&format!("version {version} of {name} scores now; before it was {before}\n"));
        }
        after(LOOK_AGAIN).recv().ok();
    }
    print(&format!(
        "the label log has it; the service has not read it yet, and version {before} of {name} still scores\n"
    ))
}

fn export(client: &Client, name: &str, output: Option<&Path>) -> anyhow::Result<()> {
    let url = format!("{}{}/export", client.base, path(name)?);
    let mut response = client.agent.get(&url).call().with_context(|| no_answer(&url))?;
    if response.status() != 200 {
        expect(200, read(response, &url)?, &url)?;
        return Ok(());
    }
    let artifact = response.body_mut().with_config().limit(ARTIFACT_BYTES_MAX).read_to_vec();
    let artifact = artifact.with_context(|| format!("the answer of {url} broke off"))?;
    match output {
        Some(file) => std::fs::write(file, artifact).with_context(|| format!("cannot write {}", file.display())),
        None => Ok(std::io::stdout().lock().write_all(&artifact)?),
    }
}

/// As large as a model in the label log may be.
const ARTIFACT_BYTES_MAX: u64 = 64 << 20;

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// A dash where there is nothing.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn yes(value: &Value) -> String {
    if *value == true { "yes" } else { "no" }.to_owned()
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.4}"))
}

/// Columns as wide as their widest cell, two blanks between them.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{AlarmChanges, RefitLabels, RefitQuality};

    #[test]
    fn a_refit_is_told_in_plain_words() {
        let retrained = Retrained {
            model: "logistic".into(),
            promoted: true,
            dry_run: false,
            version: Some(417),
            why: "it is better: it takes over".into(),
            labels: RefitLabels { fitted: 320, held_out_anomalies: 20, held_out_normals: 60 },
            champion: RefitQuality { log_loss: 0.5, average_precision: 0.625 },
            challenger: RefitQuality { log_loss: 0.25, average_precision: 0.75 },
            log_loss_change: RefitChange { low: -0.375, mean: -0.25, high: -0.125 },
            average_precision_change: RefitChange { low: 0.0, mean: 0.125, high: 0.25 },
            alarms: AlarmChanges { rows: 9_000, gained: 2, lost: 2, kept: 10 },
        };
        insta::assert_snapshot!(report(&retrained), @r"
        logistic: fitted to 320 labels, compared on the 80 newest (20 anomalies, 60 normals)

                           SCORES NOW  REFITTED  CHANGE  WITH 95 %
        log loss           0.500       0.250     -0.250  -0.375 to -0.125  lower is better
        average precision  0.625       0.750     +0.125  +0.000 to +0.250  higher is better

        of the 12 alarms in 9000 events of the last day it would keep 10, lose 2 and gain 2
        it is better: it takes over
        version 417 scores now; `larum models rollback logistic` takes it back
        ");
    }

    #[test]
    fn versions_are_a_table() {
        let answer = json!({"model": "svm", "versions": [
            {"version": 417, "active": true, "labels": 0, "log_loss": null, "promoted_at": "2026-01-31T08:00:00.000Z"},
            {"version": 0, "active": false, "labels": 1234, "log_loss": 0.31, "promoted_at": null},
        ]});
        insta::assert_snapshot!(table(&version_rows(&answer)), @r"
        VERSION  SCORES  LABELS SINCE  LOG LOSS  PROMOTED
        417      yes     0             -         2026-01-31T08:00:00.000Z
        0        no      1234          0.3100    online, never refitted
        ");
    }

    #[test]
    fn a_name_that_is_none_is_bad_usage() {
        assert_eq!(path("wide_neighbours").unwrap(), "/v1/models/wide_neighbours");
        assert!(path("../labels").is_err() && path("").is_err() && path("a b").is_err());
    }
}
