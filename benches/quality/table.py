"""The table: what was measured, as Markdown, and what it comes to beside an oracle that picks the best streaming peer for each stream."""

from dataclasses import dataclass, field
from statistics import mean

MEASURES = ("auc", "average_precision")
WORDS = {"auc": "AUC", "average_precision": "average precision"}


@dataclass
class Figures:
    """Of one stream in one order, means over the seeds: (AUC, average precision) of larum's score, its detectors, the peers."""

    title: str
    score: tuple
    detectors: dict
    peers: dict = field(default_factory=dict)
    batch: dict = field(default_factory=dict)

    def best_peer(self, measure):
        """Name and figure of the best streaming peer."""
        name = max(self.peers, key=lambda name: self.peers[name][measure])
        return name, self.peers[name][measure]


def summary(results):
    """By measure: means of larum and of the oracle, on how many larum is first, its largest shortfall and where."""
    out = {}
    for at, measure in enumerate(MEASURES):
        short, worst = max((figures.best_peer(at)[1] - figures.score[at], figures.title) for figures in results)
        out[measure] = {
            "mean": mean(figures.score[at] for figures in results),
            "oracle": mean(figures.best_peer(at)[1] for figures in results),
            "first": sum(figures.score[at] > figures.best_peer(at)[1] for figures in results),
            "short": max(short, 0.0),
            "worst": worst,
        }
    return out


def markdown(results):
    detectors = list(results[0].detectors)
    peers, batch = list(results[0].peers), list(results[0].batch)
    head = ["stream, order", "**score**"] + [f"`{name}`" for name in detectors] + peers + batch
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " --- |" * (len(head) - 1)]
    for figures in results:
        first = [max(pair[at] for pair in (figures.score, *figures.peers.values())) for at in (0, 1)] if figures.peers else None
        cells = [figures.title, cell(figures.score, first)]
        cells += [cell(figures.detectors[name]) for name in detectors]
        cells += [cell(figures.peers[name], first) for name in peers]
        cells += [cell(figures.batch[name]) for name in batch]
        lines.append("| " + " | ".join(cells) + " |")
    if len(results) > 1:
        columns = [[figures.score for figures in results]]
        for group, names in (("detectors", detectors), ("peers", peers), ("batch", batch)):
            columns += [[getattr(figures, group)[name] for figures in results] for name in names]
        means = [cell([mean(pair[at] for pair in column) for at in (0, 1)]) for column in columns]
        lines.append("| mean | " + " | ".join(means) + " |")
    return "\n".join(lines)


def sentences(results):
    lines = []
    for measure, found in summary(results).items():
        where = f"; at most {found['short']:.3f} behind the best peer ({found['worst']})" if found["short"] > 0 else ""
        lines.append(
            f"- {WORDS[measure]}, mean over {len(results)}: {found['mean']:.3f}; best streaming peer for each, picked by an oracle: "
            f"{found['oracle']:.3f}. First on {found['first']} of {len(results)}{where}."
        )
    return "\n".join(lines)


def cell(pair, first=None):
    """.871/.465, bold what is first."""
    texts = []
    for at, value in enumerate(pair):
        text = f"{value:.3f}".removeprefix("0")
        texts.append(f"**{text}**" if first is not None and value == first[at] else text)
    return "/".join(texts)


def nab_markdown(scores, series):
    """A row for the score and each detector, a column for each profile; only the score alarms."""
    profiles = list(scores["score"])
    lines = [f"| NAB, {series} series, one threshold | " + " | ".join(profiles) + " |", "| --- |" + " --- |" * len(profiles)]
    for name, by_profile in scores.items():
        lines.append(f"| {title(name)} | " + " | ".join(f"{by_profile[profile]:.1f}" if profile in by_profile else "" for profile in profiles) + " |")
    return "\n".join(lines)


def skab_markdown(rules, files, default, false_alarms_max):
    lines = [
        f"| SKAB, {files} files, one threshold: F1, false alarms | score at least {default} | best with at most {false_alarms_max:.0%} false alarms |",
        "| --- | --- | --- |",
    ]
    for name, by_rule in rules.items():
        cells = [f"{f1:.3f}, {rate:.1%}" for f1, rate, _ in by_rule.values()]
        lines.append(f"| {title(name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def budgets_markdown(budgets, budget):
    lines = [f"| alarms by their budget ({budget}, a row a second), in each tenth after the warm-up | least | most |", "| --- | --- | --- |"]
    lines += [f"| {name} | {min(tenths):.2f} | {max(tenths):.2f} |" for name, tenths in budgets.items()]
    return "\n".join(lines)


def shifts_markdown(shifts, protocol):
    spans = list(protocol.SPANS)
    lines = [f"| every feature moved by {protocol.SHIFT:g} deviations: alarms by their budget | {' | '.join(spans)} |", "| --- |" + " --- |" * len(spans)]
    for name, found in shifts.items():
        lines.append(f"| {name} | " + " | ".join(f"{rate:.2f}" for rate in found.alarms) + " |")
        lines.append(f"| {name}, events with p < .01, by 1 % of the rows | " + " | ".join(f"{rate:.2f}" for rate in found.strange) + " |")
    return "\n".join(lines)


def title(name):
    return "**score**" if name == "score" else f"`{name}`"
