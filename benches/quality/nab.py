"""The Numenta Anomaly Benchmark: larum over each series, one threshold for all of them (Lavin and Ahmad 2015; NAB v1.1 scoring)."""

import csv
import json
import math
from datetime import UTC, datetime

from archive import unpacked

# What a hit at the very beginning of a window, a false alarm far from any, and a missed window weigh.
PROFILES = {"standard": (1.0, 0.11, 1.0), "low FP": (1.0, 0.22, 1.0), "low FN": (1.0, 0.11, 2.0)}
# The standard profile, where a series that has alarmed is quiet for so long: one `quiet_period` for all of them.
QUIET = "standard, quiet_period = 1d"
QUIET_SECONDS = 86_400
# The shares of all rows between which the threshold is looked for (the best has been near .003), and in how many steps: with 40 of them, up to a
# share of .2, the score was .3 to 1.2 lower.
SHARES, STEPS = (0.0003, 0.05), 200


def run(archive, larum, seed):
    """By column (`score` and every model that needs no labels): the score of each profile, 0 to 100, that of the standard profile when a
    series is quiet for a day after an alarm, and the number of series."""
    columns, all_times, all_windows = {}, [], []
    with unpacked(archive) as folder:
        root = next(folder.rglob("labels/combined_windows.json")).parent.parent
        windows = json.loads((root / "labels/combined_windows.json").read_text())
        for name in sorted(windows):
            path = root / "data" / name
            with open(path, newline="") as file:
                times = [row["timestamp"][:19] for row in csv.DictReader(file)]
            scores = larum.scores(path, len(times), "--time", "timestamp", "--seed", seed)
            for column, values in scores.items():
                columns.setdefault(column, []).append(values)
            all_times.append(times)
            all_windows.append([(begin[:19], end[:19]) for begin, end in windows[name]])
    worths = [worth(times, windows) for times, windows in zip(all_times, all_windows)]
    count = sum(map(len, all_windows))
    scores = {
        column: {profile: best(series, worths, count, weights) for profile, weights in PROFILES.items()}
        for column, series in columns.items()
    }
    seconds = [[datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp() for time in times] for times in all_times]
    for column, series in columns.items():
        scores[column][QUIET] = best_quiet(series, seconds, worths, count, PROFILES["standard"])
    return scores, len(all_times)


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


def best_quiet(series, seconds, worths, count, weights):
    """The same as `best` of the alarms that are left when each keeps the rest of its series quiet for a while."""
    pooled = sorted((score for scores in series for score in scores), reverse=True)
    low, high = SHARES
    shares = [low * (high / low) ** (step / (STEPS - 1)) for step in range(STEPS)]
    thresholds = {pooled[int(share * len(pooled))] for share in shares}
    by_row = [{i: (window, value) for i, window, value in rows} for rows in worths]
    windows = {(k, window) for k, rows in enumerate(worths) for _, window, _ in rows if window is not None}
    return max(worth_of(loud(series, seconds, threshold), by_row, windows, count, weights) for threshold in thresholds)


def loud(series, seconds, threshold):
    """(series, row) of each alarm: a score of at least the threshold, later than the quiet period of the alarm before.

    In the probation there is none, as larum raises none while it warms up.
    """
    for k, (scores, times) in enumerate(zip(series, seconds)):
        quiet_until = -math.inf
        for i in range(probation(len(scores)), len(scores)):
            if scores[i] >= threshold and times[i] >= quiet_until:
                quiet_until = times[i] + QUIET_SECONDS
                yield k, i


def worth_of(alarms, by_row, windows, count, weights):
    """The score of these alarms."""
    hit_weight, false_weight, miss_weight = weights
    gains, total = dict.fromkeys(windows, -miss_weight), 0.0
    for k, i in alarms:
        window, value = by_row[k].get(i, (None, 0.0))
        if window is None:
            total += value * false_weight
        else:
            gains[k, window] = max(gains[k, window], value * hit_weight / falling(-1.0))
    nothing = -miss_weight * len(gains)
    return 100 * (total + sum(gains.values()) - nothing) / (count * hit_weight - nothing)
