"""Runs larum over the streams, takes the peers' figures, writes the table, and holds it against the bars. Called by `run`."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

import alarms
import bars
import measured
import nab
import skab
import streams
import table
from larum import Larum, detectors

# How many events of the synthetic traffic make the own sample, and its seeds: of one alone, the average precision is .33 to .47.
SAMPLE_EVENTS = 50_000
SAMPLE_SEEDS = range(1, 7)


def arguments():
    parser = argparse.ArgumentParser(prog="benches/quality/run", description="How well larum finds anomalies, beside other detectors.")
    parser.add_argument("dir", nargs="?", type=Path, metavar="DIR", help="the public streams (benches/quality/README.md says which files)")
    parser.add_argument("--sample", action="store_true", help="instead of DIR: only larum's own synthetic traffic")
    parser.add_argument("--streams", default="all", metavar="LIST", help='of "http", "http natural", nab, skab, alarms ...; default: all')
    peers = "kept: figures of peers.csv (default); none; all, or names: measure these anew and keep them"
    parser.add_argument("--peers", default="kept", metavar="LIST", help=peers)
    seeds = ",".join(map(str, measured.SEEDS))
    parser.add_argument("--seeds", default=seeds, metavar="LIST", help=f"of the shuffles and of every draw; figures are means over them (default {seeds}); of the sample always 1 to 6")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a figure is below its bar in bars.toml")
    parser.add_argument("--bars", action="store_true", help="print the bars that these figures give, for bars.toml")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there too")
    given = parser.parse_args()
    if given.sample == (given.dir is not None):
        parser.error("either DIR or --sample")
    if given.dir is not None and not given.dir.is_dir():
        parser.error(f"there is no folder {given.dir}")
    given.seeds = [int(seed) for seed in given.seeds.split(",")]
    everything = [*streams.STREAMS, "nab", "skab", "alarms"]
    asked = given.streams.split(",")
    known = {"all", "nab", "skab", "alarms"} | {s.name for s in streams.STREAMS} | {s.title for s in streams.STREAMS}
    if wrong := [name for name in asked if name not in known]:
        parser.error(f"there is no stream {wrong[0]!r}; there are: {', '.join(sorted(known))}")
    given.streams = [s for s in everything if "all" in asked or getattr(s, "name", s) in asked or getattr(s, "title", s) in asked]
    given.measure = {"kept": [], "none": [], "all": list(measured.LIBRARY)}.get(given.peers)
    if given.measure is None:
        given.measure = given.peers.split(",")
    if wrong := [peer for peer in given.measure if peer not in measured.LIBRARY]:
        parser.error(f"there is no peer {wrong[0]!r}; there are: {', '.join(measured.LIBRARY)}")
    return given


def main():
    given = arguments()
    larum = Larum(os.environ["LARUM_PROGRAM"])
    limits = bars.read()
    if given.sample:
        return own_sample(given, larum, limits)
    texts, below = [], []
    labelled = [stream for stream in given.streams if stream in streams.STREAMS]
    if labelled:
        results = [figures_of(stream, given, larum) for stream in labelled]
        texts += [heading(given, larum), table.markdown(results)]
        below += bars.streams(limits, results)
        if given.peers != "none":
            texts.append(table.sentences(results))
            if len(labelled) == len(streams.STREAMS):
                below += bars.oracle(limits, table.summary(results))
            else:
                progress("not all streams: the bars on means and ranks are not looked at")
    if "nab" in given.streams:
        scores, series = over_seeds(nab.run, given.dir / "nab.tar.gz", larum, given.seeds)
        texts.append(table.nab_markdown(scores, series))
        below += bars.nab(limits, scores)
    if "skab" in given.streams:
        rules, files = over_seeds(skab.run, given.dir / "skab.tar.gz", larum, given.seeds)
        texts.append(table.skab_markdown(rules, files, skab.DEFAULT, skab.FALSE_ALARMS_MAX))
        below += bars.skab(limits, rules)
    if "alarms" in given.streams:
        with tempfile.TemporaryDirectory() as folder:
            budgets, shifts = alarms.run(given.dir, larum, given.seeds[0], Path(folder))
        texts += [table.budgets_markdown(budgets, alarms.BUDGET), table.shifts_markdown(shifts, alarms)]
        below += bars.alarms(limits, budgets, shifts)
    text = "\n\n".join(texts) + "\n"
    print(text)
    if given.bars and labelled:
        print(bars.from_figures(results))
    if given.out:
        given.out.write_text(text)
    return verdict(below, given.check)


def figures_of(stream, given, larum):
    """Larum and the peers over one stream: a replay for each seed."""
    begin, reports, peers = time.monotonic(), [], {}
    kept = measured.read()
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            written = streams.write(stream, given.dir, seed, Path(folder))
            reports.append(larum.report(written.path, "--label", "label", "--warmup", written.warmup, "--seed", seed))
            for peer in given.measure:
                row = measured.measure(peer, stream, seed, written)
                kept[stream.title, peer, row["seed"]] = {name: str(value) for name, value in row.items()}
                progress(f"{stream.title}, seed {seed}, {peer}: {row['auc']}/{row['average_precision']} in {row['seconds']} s")
                measured.write(kept, streams.STREAMS)
        if given.peers != "none":
            for peer in measured.LIBRARY:
                peers.setdefault(peer, []).append(measured.kept(kept, peer, stream, seed))
    means = {peer: tuple(mean(pair[at] for pair in pairs) for at in (0, 1)) for peer, pairs in peers.items()}
    figures = table.Figures(
        stream.title,
        tuple(mean(report[measure] for report in reports) for measure in table.MEASURES),
        {name: tuple(mean(detectors(report)[name][m] for report in reports) for m in table.MEASURES) for name in detectors(reports[0])},
        {peer: pair for peer, pair in means.items() if peer in measured.STREAMING},
        {peer: pair for peer, pair in means.items() if peer not in measured.STREAMING},
    )
    rate = mean(report["events_per_second"] for report in reports)
    progress(f"{stream.title}: {table.cell(figures.score)}, {rate:,.0f} events/s, {time.monotonic() - begin:.0f} s in all")
    return figures


def over_seeds(run, archive, larum, seeds):
    """The means over the seeds of what `run` finds by column and rule, and the number of files."""
    found = [run(archive, larum, seed) for seed in seeds]
    first, files = found[0]
    return {column: {rule: means([columns[column][rule] for columns, _ in found]) for rule in rules} for column, rules in first.items()}, files


def means(figures):
    """Of numbers, or of tuples of them."""
    return tuple(map(mean, zip(*figures))) if isinstance(figures[0], tuple) else mean(figures)


def own_sample(given, larum, limits):
    """The synthetic traffic of `larum generate`: means over always the same seeds."""
    reports = [larum.sample(SAMPLE_EVENTS, seed) for seed in SAMPLE_SEEDS]
    figures = {measure: mean(report[measure] for report in reports) for measure in table.MEASURES}
    auc, average_precision = (figures[measure] for measure in table.MEASURES)
    print(f"own sample, {len(reports)} x {SAMPLE_EVENTS:,} events: AUC {auc:.4f}, average precision {average_precision:.4f}")
    return verdict(bars.sample(limits, figures), given.check)


def heading(given, larum):
    seeds = ", ".join(map(str, given.seeds))
    text = f"AUC/average precision, no labels, nothing configured. {larum.version()}; seeds {seeds}"
    if given.peers != "none":
        libraries = dict.fromkeys(measured.version(peer) for peer in measured.LIBRARY)
        text += f"; {', '.join(libraries)}; bold: first among score and streaming peers; batchIF saw all rows before it scored the first"
    return text + "."


def verdict(below, check):
    for sentence in below:
        print(f"below: {sentence}", file=sys.stderr)
    if not below:
        progress("every bar reached")
    return 1 if below and check else 0


def progress(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (measured.Missing, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"benches/quality/run: {error}")
