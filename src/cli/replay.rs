//! `larum replay`: the engine over a file, and what it found.

use super::Usage;
use super::args::ReplayArgs;
use super::run::{blueprint, engine_limits};
use crate::config::Config;
use crate::decision::ENTRIES_MIN;
use crate::engine::{Blueprint, BlueprintError};
use crate::replay::{self, Feedback, Inferred, Options, Report, Source, Teaching};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

/// A configuration for those who bring none: every default.
const DEFAULTS: &str = "[kafka]\nevents = \"replay\"\n[event.fields]\nx = \"double\"\n";

pub fn run(args: ReplayArgs) -> anyhow::Result<()> {
    let options = Options {
        label: args.label.clone(),
        time: args.time.clone(),
        entity: args.entity.clone(),
        id: args.id.clone(),
    };
    for output in [&args.output, &args.report].into_iter().flatten() {
        let same = |path: &Path| path.canonicalize().ok();
        if same(output).is_some_and(|output| Some(output) == same(&args.input)) {
            return Err(Usage(format!("{:?} is what is read: write to another file", output.display())).into());
        }
    }
    let source = Source::open(&args.input).map_err(|error| Usage(format!("{error:#}")))?;
    let blueprint = match &args.config {
        Some(path) => {
            let mut config = Config::load(path)?;
            config.seed = args.seed.unwrap_or(config.seed);
            let event = &mut config.event;
            for (name, to) in
                [(&options.id, &mut event.id), (&options.time, &mut event.time), (&options.entity, &mut event.entity)]
            {
                if name.is_some() {
                    to.clone_from(name);
                }
            }
            blueprint(&config)?
        }
        None => without_configuration(&source, &options, args.seed)?,
    };
    let input = source.rows(&options).map_err(|error| Usage(format!("{error:#}")))?;
    let delayed = args.label_delay.map(|rows| Feedback::Delayed { rows, rate: args.label_rate });
    let teaching = Teaching { feedback: delayed.or(args.feedback), refit_labels: args.refit };
    let mut scores = args.output.as_deref().map(create).transpose()?;
    // Before all is scored: a path that cannot be written to is told at once.
    let report_file = args.report.as_deref().map(create).transpose()?;

    // indicatif draws only where standard error is a terminal.
    let bar = ProgressBar::new(input.bytes_total()).with_style(
        ProgressStyle::with_template("{wide_bar} {percent}% {elapsed} (left {eta})")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let out = scores.as_mut().map(|file| file as &mut dyn Write);
    let (report, refused) =
        replay::run(&blueprint, input, teaching, args.warmup, out, |bytes| bar.set_position(bytes))?;
    bar.finish_and_clear();
    if let Some(mut file) = scores {
        file.flush().context("cannot write the scores")?;
    }
    if let Some(mut file) = report_file {
        serde_json::to_writer_pretty(&mut file, &report).context("cannot write the report")?;
        writeln!(file)?;
        file.flush().context("cannot write the report")?;
    }
    if refused.rows > 0 {
        eprintln!("{} rows could not be used; in a service they would be dead letters:", refused.rows);
        for example in &refused.examples {
            eprintln!("  {example}");
        }
    }
    print(&blueprint, &report, args.warmup)?;
    if refused.rows > 0 && refused.rows == report.rows {
        return Err(Usage("no row could be used: do the file and [event] describe the same events?".into()).into());
    }
    Ok(())
}

fn without_configuration(source: &Source, options: &Options, seed: Option<u64>) -> anyhow::Result<Arc<Blueprint>> {
    let defaults = Config::parse("defaults".as_ref(), DEFAULTS, &|_| None)?;
    let Inferred { event, sql, decision } =
        source.infer(options, &defaults.event).map_err(|error| Usage(format!("{error:#}")))?;
    let limits = engine_limits(&defaults);
    let (decision, quiet) = decision.unwrap_or((defaults.decision, defaults.quiet));
    let seed = seed.unwrap_or(defaults.seed);
    let blueprint = Blueprint::new(&event, &sql, defaults.models, decision, seed, limits);
    match blueprint.and_then(|blueprint| blueprint.quieted(&quiet)) {
        Ok(blueprint) => Ok(Arc::new(blueprint)),
        Err(BlueprintError::Query(error)) => Err(Usage(format!(
            "a column cannot be a feature as it is named: {}; {}",
            error.message,
            if options.label.is_none() {
                "if it says what is an anomaly, name it with --label, else write a configuration that renames it (-c)"
            } else {
                "write a configuration that renames it (-c)"
            }
        ))
        .into()),
        Err(error) => Err(error.into()),
    }
}

fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    let file = File::create(path).map_err(|error| Usage(format!("cannot write {:?}: {error}", path.display())))?;
    Ok(BufWriter::with_capacity(1 << 16, file))
}

fn print(blueprint: &Blueprint, report: &Report, warmup: u64) -> anyhow::Result<()> {
    let figure = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.4}"));
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "rows {}, scored {} in {:.1} s ({:.0} events/s)",
        report.rows, report.scored, report.seconds, report.events_per_second
    )?;
    writeln!(
        out,
        "alarms {} ({} of the rows after the first {warmup}), labels used {}",
        report.alarms,
        figure(report.alarm_rate),
        report.labels_used
    )?;
    if let Some(found) = report.reviewed_anomalies {
        writeln!(out, "the reviewer found {found} anomalies with {} labels", report.labels_used)?;
    }
    if let Some(promotions) = report.promotions {
        writeln!(out, "refitted models took over {promotions} times")?;
    }
    let quiet_s = blueprint.quiet.period_ms() as f64 / 1_000.0;
    let once = if quiet_s > 0.0 {
        format!(", one per entity in {quiet_s} s but for much stranger ones")
    } else {
        String::new()
    };
    writeln!(
        out,
        "alarm rule: {}{once}; none in the first {ENTRIES_MIN} events, while larum warms up",
        blueprint.decision
    )?;
    if report.late > 0 {
        writeln!(
            out,
            "{} rows were older than their entity's newest by more than the lateness, and entered no window: is the file sorted by time?",
            report.late
        )?;
    }
    if report.auc.is_none() {
        return Ok(());
    }
    writeln!(out, "{:<24} {:>8} {:>18}", "", "AUC", "average precision")?;
    writeln!(out, "{:<24} {:>8} {:>18}", "score", figure(report.auc), figure(report.average_precision))?;
    for (name, model) in &report.models {
        writeln!(out, "{name:<24} {:>8} {:>18}", figure(model.auc), figure(model.average_precision))?;
    }
    for found in &report.budgets {
        writeln!(
            out,
            "of the strangest {:.1} %: precision {}, recall {}",
            found.budget * 100.0,
            figure(found.precision),
            figure(found.recall)
        )?;
    }
    Ok(())
}
