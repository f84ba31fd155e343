"""What a person gets of alarms: as many as the budget allows, tenth by tenth, and after a lasting shift, once it is learned."""

import csv
import gzip
import math
from dataclasses import dataclass
from statistics import fmean, pstdev

from streams import warmup_rows

# Rows of a replay without times are a second apart: one alarm in a hundred rows.
BUDGET = "864/day"
BUDGET_PER_ROW = 864 / 86_400
BUDGETED = ("http", "smtp")
SHIFTED = ("http", "elec2")
# How far every feature is moved, from the middle on, in its standard deviations.
SHIFT = 3.0
# Rows from the middle on: before the shift, at once after it, until it is to be learned, and all the rest.
SPANS = {
    "the 10,000 rows before": (-10_000, 0),
    "the first 1,000 after": (0, 1_000),
    "up to row 10,000": (1_000, 10_000),
    "all the rest": (10_000, None),
}


@dataclass
class Shifted:
    """Alarms, and events as strange as one in a hundred, by what is expected of so many rows, in each of SPANS."""

    alarms: tuple
    strange: tuple


def run(source, larum, seed, folder):
    """By stream: the alarms of each tenth by its budget; the rates before and after the shift."""
    budgets, shifts = {}, {}
    for name in dict.fromkeys(BUDGETED + SHIFTED):
        columns, rows = read(source / f"{name}.csv.gz")
        if name in BUDGETED:
            alarms, _ = replay(larum, folder / "budget.csv", columns, rows, seed)
            budgets[name] = tenths(alarms)
        if name in SHIFTED:
            alarms, strange = replay(larum, folder / "shift.csv", columns, shifted(rows), seed)
            shifts[name] = Shifted(rates(alarms), rates(strange))
    return budgets, shifts


def read(path):
    """Names and rows of the numeric features: without the truth, and without a date, which only ever grows."""
    with gzip.open(path, "rt", newline="") as file:
        header, *lines = csv.reader(file)
    kept = [i for i, name in enumerate(header) if name not in ("label", "date")]
    return [header[i] for i in kept], [[float(line[i]) for i in kept] for line in lines]


def shifted(rows):
    moves = [SHIFT * pstdev(column) for column in zip(*rows)]
    middle = len(rows) // 2
    return rows[:middle] + [[x + move for x, move in zip(row, moves)] for row in rows[middle:]]


def replay(larum, path, columns, rows, seed):
    """Of each row: whether it alarmed, and whether it was as strange as one in a hundred."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    lines = larum.alarms(path, columns, f'alarm_budget = "{BUDGET}"', seed)
    if len(lines) != len(rows):
        raise ValueError(f"{path.name}: {len(lines)} of {len(rows)} rows have a score")
    return [alarm for alarm, _ in lines], [p_value < BUDGET_PER_ROW for _, p_value in lines]


def tenths(alarms):
    """Alarms by budget in each tenth of the rows after the warm-up."""
    counted = alarms[warmup_rows(len(alarms)) :]
    edges = [math.floor(len(counted) * tenth / 10) for tenth in range(11)]
    return [fmean(counted[begin:end]) / BUDGET_PER_ROW for begin, end in zip(edges, edges[1:])]


def rates(marked):
    middle = len(marked) // 2
    ends = ((middle + begin, len(marked) if end is None else middle + end) for begin, end in SPANS.values())
    return tuple(fmean(marked[begin:end]) / BUDGET_PER_ROW for begin, end in ends)
