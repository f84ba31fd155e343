"""The Numenta Anomaly Benchmark: larum over each series, one threshold for all of them (Lavin and Ahmad 2015; NAB v1.1 scoring)."""

import csv
import json
import math

from archive import unpacked

# What a hit at the very beginning of a window, a false alarm far from any, and a missed window weigh.
PROFILES = {"standard": (1.0, 0.11, 1.0), "low FP": (1.0, 0.22, 1.0), "low FN": (1.0, 0.11, 2.0)}
# The standard profile, of the alarms that larum raises where nothing is configured: no threshold is looked for.
ALARMS = "standard, alarms by default"


def run(archive, larum, seed):
    """By column (`score` and every model that needs no labels): the score of each profile, 0 to 100, beside `score` that of its alarms; and the
    number of series."""
    columns, all_alarms, worths, count = {}, [], [], 0
    with unpacked(archive) as folder:
        root = next(folder.rglob("labels/combined_windows.json")).parent.parent
        windows = json.loads((root / "labels/combined_windows.json").read_text())
        for name in sorted(windows):
            path = root / "data" / name
            with open(path, newline="") as file:
                times = [row["timestamp"][:19] for row in csv.DictReader(file)]
            scores, alarms = larum.scores(path, len(times), "--time", "timestamp", "--seed", seed)
            for column, values in scores.items():
                columns.setdefault(column, []).append(values)
            all_alarms.append(alarms)
            worths.append(worth(times, [(begin[:19], end[:19]) for begin, end in windows[name]]))
            count += len(windows[name])
    scores = {
        column: {profile: best(series, worths, count, weights) for profile, weights in PROFILES.items()}
        for column, series in columns.items()
    }
    scores["score"][ALARMS] = of_alarms(all_alarms, worths, count, PROFILES["standard"])
    return scores, len(all_alarms)


def worth(times, windows):
    """Of each row after the probation: its index, the number of its window (or None), what an alarm there is worth (-1 to 1)."""
    first = {}
    for i, time in enumerate(times):
        first.setdefault(time, i)
    spans = [(first[begin], first[end]) for begin, end in windows]
    rows, last = [], None
    at, number = 0, 0
    while at < len(times):
        if number < len(spans) and at >= spans[number][0]:
            begin, end = spans[number]
            width = end - begin + 1
            rows += [(i, number, falling((i - end - 1) / width)) for i in range(begin, end + 1)]
            at, number, last = end + 1, number + 1, (end, width)
        else:
            # An alarm soon after a window is no worse than a late one in it; far from any it costs 1.
            rows.append((at, None, falling((at - last[0]) / (last[1] - 1)) if last else -1.0))
            at += 1
    return [row for row in rows if row[0] >= probation(len(times))]


def probation(rows):
    """How many rows at the beginning do not count."""
    return min(math.floor(0.15 * rows), 750)


def falling(position):
    """From almost 1 at a window's beginning (-1) over 0 at its end to -1 three widths after it."""
    return -1.0 if position > 3 else 2 / (1 + math.exp(5 * position)) - 1


def best(series, worths, count, weights):
    """The score at the best threshold; `series` holds the scores of each series, `count` is the number of windows."""
    hit_weight, false_weight, miss_weight = weights
    rows = [
        (scores[i], None if window is None else (k, window), value)
        for k, (scores, worth_of_rows) in enumerate(zip(series, worths))
        for i, window, value in worth_of_rows
    ]
    rows.sort(key=lambda row: -row[0])
    gains = {window: -miss_weight for _, window, _ in rows if window is not None}
    nothing = total = top = -miss_weight * len(gains)
    for at, (score, window, value) in enumerate(rows):
        if window is None:
            total += value * false_weight
        else:
            # Of the alarms in a window only the one worth most counts.
            gain = max(gains[window], value * hit_weight / falling(-1.0))
            total, gains[window] = total + gain - gains[window], gain
        if (at + 1 == len(rows) or rows[at + 1][0] != score) and total > top:
            top = total
    return 100 * (top - nothing) / (count * hit_weight - nothing)


def of_alarms(series, worths, count, weights):
    """The score of these alarms, whether each row of each series alarms."""
    hit_weight, false_weight, miss_weight = weights
    gains, total = {}, 0.0
    for k, (alarms, worth_of_rows) in enumerate(zip(series, worths)):
        for i, window, value in worth_of_rows:
            if window is not None:
                gain = value * hit_weight / falling(-1.0) if alarms[i] else -miss_weight
                gains[k, window] = max(gains.get((k, window), -miss_weight), gain)
            elif alarms[i]:
                total += value * false_weight
    nothing = -miss_weight * len(gains)
    return 100 * (total + sum(gains.values()) - nothing) / (count * hit_weight - nothing)
