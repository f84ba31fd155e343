"""The bars of bars.toml: what a run must reach."""

import tomllib
from pathlib import Path

from nab import ALARMS

FILE = Path(__file__).parent / "bars.toml"
# How far below a measured figure its bar lies, so that a rounding does not fail a change and a loss does.
MARGINS = {"auc": 0.01, "average_precision": 0.02}


def read():
    return tomllib.loads(FILE.read_text())


def from_figures(results):
    """The table `streams` of bars.toml that these figures give."""
    lines = ["[streams]"]
    for figures in results:
        bar = [f"{measure} = {figures.score[at] - margin:.3f}" for at, (measure, margin) in enumerate(MARGINS.items())]
        lines.append(f'"{figures.title}" = {{ {", ".join(bar)} }}')
    return "\n".join(lines)


def streams(bars, results):
    """What fell below, a sentence each."""
    below = []
    for figures in results:
        bar = bars["streams"].get(figures.title)
        if bar is None:
            below.append(f"{figures.title}: bars.toml has no bar for it")
            continue
        for at, measure in enumerate(("auc", "average_precision")):
            below += at_least(f"{figures.title}: {measure}", figures.score[at], bar[measure])
    return below


def oracle(bars, summary):
    """Only when every stream was run: the means of some say nothing."""
    below = []
    for measure, found in summary.items():
        bar = bars["oracle"][measure]
        below += at_least(f"mean {measure} above the oracle's", found["mean"] - found["oracle"], bar["ahead_min"])
        below += at_least(f"streams on which {measure} is first", found["first"], bar["first_min"])
        below += at_most(f"{measure} behind the best peer on {found['worst']}", found["short"], bar["short_max"])
    return below


def nab(bars, scores):
    found, bar = scores["score"], bars["nab"]
    raised = at_least(f"NAB, {ALARMS}", found[ALARMS], bar["alarms_min"])
    return at_least("NAB, standard", found["standard"], bar["standard_min"]) + raised


def skab(bars, rules):
    """F1 at the best threshold whose false alarms are few enough, and at the one that needs no truth."""
    found, bar = rules["score"], bars["skab"]
    return at_least("SKAB, F1", found["best"][0], bar["f1_min"]) + at_least("SKAB, F1 at the default threshold", found["default"][0], bar["default_f1_min"])


def alarms(bars, budgets, shifts):
    """The alarms of every tenth, and of every span about a shift, are about as many as the budget allows."""
    below, off_max = [], bars["alarms"]["off_max"]
    for name, tenths in budgets.items():
        below += at_most(f"{name}: alarms of a tenth, off their budget by", max(abs(tenth - 1) for tenth in tenths), off_max)
    for name, found in shifts.items():
        off = max(abs(rate - 1) for rate in found.alarms)
        below += at_most(f"{name}, shifted: alarms of a span, off their budget by", off, bars["alarms"]["off_after_shift_max"])
    return below


def sample(bars, report):
    below = []
    for measure in ("auc", "average_precision"):
        below += at_least(f"own sample: {measure}", report[measure], bars["sample"][measure])
    return below


def at_least(what, value, bar):
    # What is not a number has not reached anything.
    return [] if value is not None and value >= bar else [f"{what} is {shown(value)}, below its bar of {bar}"]


def at_most(what, value, bar):
    return [] if value <= bar else [f"{what} is {shown(value)}, above its bar of {bar}"]


def shown(value):
    return "none" if value is None else f"{value:.4f}".rstrip("0").rstrip(".")
