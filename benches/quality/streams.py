"""The labelled streams and the orders they are replayed in, written as CSV: the features, then `label`, in the order of replay."""

import csv
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from permutation import permutation

# Columns that tell the truth in other words.
NO_FEATURES = ("attack",)


@dataclass(frozen=True)
class Stream:
    name: str
    file: str
    shuffled: bool = False

    @property
    def title(self):
        return f"{self.name} {'shuffled' if self.shuffled else 'natural'}"


STREAMS = [
    Stream("http", "http.csv.gz"),
    Stream("http", "http.csv.gz", shuffled=True),
    Stream("smtp", "smtp.csv.gz"),
    Stream("mammography", "mammography.csv.gz", shuffled=True),
    Stream("annthyroid", "annthyroid.csv.gz"),
    Stream("annthyroid", "annthyroid.csv.gz", shuffled=True),
    Stream("campaign", "campaign.csv.gz"),
    Stream("ionosphere", "ionosphere.csv.gz", shuffled=True),
    Stream("pima", "pima.csv.gz"),
    Stream("nslkdd", "nslkdd_train20_then_test.csv.gz"),
]


@dataclass(frozen=True)
class Written:
    """A stream as a file, in one order."""

    path: Path
    rows: int
    warmup: int
    digest: str


def warmup_rows(rows):
    """The first rows, which are fed and not counted."""
    return rows // 10 if rows < 1000 else min(max(rows // 20, 256), 2000)


def write(stream, source, seed, folder):
    """Writes the stream of the folder `source` into `folder`; the seed is that of the shuffle."""
    with gzip.open(source / stream.file, "rt", newline="") as file:
        header, *rows = csv.reader(file)
    if header[-1] != "label":
        raise ValueError(f"{stream.file}: the last column is {header[-1]!r}, not 'label'")
    if stream.shuffled:
        rows = [rows[i] for i in permutation(seed, len(rows))]
    kept = [i for i, name in enumerate(header) if name not in NO_FEATURES]
    count = len(rows)
    path = folder / f"{stream.title.replace(' ', '_')}_{seed}.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([header[i] for i in kept])
        if len(kept) < len(header):
            rows = ([row[i] for i in kept] for row in rows)
        writer.writerows(rows)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Written(path, count, warmup_rows(count), digest)
