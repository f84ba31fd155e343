"""The Skoltech Anomaly Benchmark, outlier detection: larum over each labelled file alone, its first 400 rows not counted.

An alarm is a score of at least the threshold, the same for all files. Pooled over the files: F1, and the share of normal rows alarmed.
"""

import csv

from archive import unpacked

WARMUP = 400
# That of a series where nothing is configured.
DEFAULT = 0.46
FALSE_ALARMS_MAX = 0.14
NO_FEATURES = ("anomaly", "changepoint")


def run(archive, larum, seed):
    """By column (`score` and every model that needs no labels): the figures of each rule, and the number of files."""
    columns, truth, files = {}, [], 0
    with unpacked(archive) as folder:
        for path in sorted(folder.rglob("*.csv")):
            with open(path, newline="") as file:
                rows = list(csv.DictReader(file, delimiter=";"))
            if "anomaly" not in rows[0]:
                continue
            plain = path.with_suffix(".plain")
            with open(plain, "w", newline="") as file:
                names = [name for name in rows[0] if name not in NO_FEATURES]
                writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            by_column, _ = larum.scores(plain, len(rows), "--time", "datetime", "--seed", seed)
            for column, scores in by_column.items():
                columns.setdefault(column, []).extend(scores[WARMUP:])
            truth += [float(row["anomaly"]) == 1 for row in rows[WARMUP:]]
            files += 1
    return {column: rules(scores, truth) for column, scores in columns.items()}, files


def rules(scores, truth):
    """F1, false-alarm rate and threshold: at the default threshold, and at the best one with few enough false alarms.

    The best without that condition says nothing: more than half of the counted rows are anomalies, so alarming on all gives .70.
    """
    curve = list(thresholds(scores, truth))
    default = [point for point in curve if point[2] >= DEFAULT]
    few = [point for point in curve if point[1] <= FALSE_ALARMS_MAX]
    return {
        "default": default[-1] if default else (0.0, 0.0, DEFAULT),
        "best": max(few, default=(0.0, 0.0, 1.0)),
    }


def thresholds(scores, truth):
    """Of every distinct score, from the highest down, as the threshold: F1, false-alarm rate, the threshold."""
    anomalies = sum(truth)
    normals = len(truth) - anomalies
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    hits = false = 0
    for at, i in enumerate(order):
        hits, false = hits + truth[i], false + (not truth[i])
        if at + 1 == len(order) or scores[order[at + 1]] != scores[i]:
            # 2 TP / (2 TP + FP + FN)
            yield 2 * hits / max(hits + false + anomalies, 1), false / max(normals, 1), scores[i]
