"""Figures of the peers: those kept in peers.csv, and new ones, measured one at a time and cached by everything they depend on."""

import csv
import hashlib
import json
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
KEPT = HERE / "peers.csv"
COLUMNS = ["stream", "peer", "version", "seed", "auc", "average_precision", "seconds"]
# The library of each peer, and whether it draws by a seed; without one, and in natural order, every seed gives the same.
LIBRARY = {
    "HST": ("river", True),
    "OCSVM": ("river", False),
    "RCF": ("rcf3", True),
    "OIF": ("rcf3", True),
    "MAHA": ("numpy", False),
    "KNNW": ("numpy", False),
    "batchIF": ("scikit-learn", True),
}
# The seeds that peers.csv holds figures of.
SEEDS = (1, 2)
STREAMING = [peer for peer in LIBRARY if peer != "batchIF"]


class Missing(Exception):
    """There is no figure, or one of another version."""


def version(peer):
    library = LIBRARY[peer][0]
    for line in (HERE / "requirements.txt").read_text().splitlines():
        if line.startswith(f"{library}=="):
            return line.strip().replace("==", " ")
    raise Missing(f"requirements.txt pins no {library}")


def seed_of(peer, stream, seed):
    """The seed that the figure of this peer depends on: 0 for none."""
    return seed if stream.shuffled or LIBRARY[peer][1] else 0


def read():
    """Kept figures by (stream, peer, seed)."""
    if not KEPT.exists():
        return {}
    with open(KEPT, newline="") as file:
        return {(row["stream"], row["peer"], int(row["seed"])): row for row in csv.DictReader(file)}


def write(figures, streams):
    place = {stream.title: i for i, stream in enumerate(streams)}
    peers = list(LIBRARY)
    with open(KEPT, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for key in sorted(figures, key=lambda key: (place[key[0]], peers.index(key[1]), key[2])):
            writer.writerow(figures[key])


def kept(figures, peer, stream, seed):
    row = figures.get((stream.title, peer, seed_of(peer, stream, seed)))
    if row is None:
        raise Missing(f"peers.csv has no figure of {peer} for {stream.title} and seed {seed}: measure it with --peers {peer}")
    if row["version"] != version(peer):
        raise Missing(f"peers.csv has {peer} of {row['version']}, requirements.txt says {version(peer)}: measure it with --peers {peer}")
    return float(row["auc"]), float(row["average_precision"])


def measure(peer, stream, seed, written):
    """A row for peers.csv. `run` says where the environment and the cache are."""
    python, cache = os.environ["LARUM_PEERS_PYTHON"], Path(os.environ["LARUM_PEERS_CACHE"])
    seed = seed_of(peer, stream, seed)
    program = HERE / "peers.py"
    parts = [peer, version(peer), str(seed), str(written.warmup), written.digest, hashlib.sha256(program.read_bytes()).hexdigest()]
    found = cache / f"{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:32]}.json"
    if not found.exists():
        # One thread, niced: the figures do not depend on it, and other work on the machine should not either.
        command = ["nice", "-n", "19", python, program, peer, written.path, str(written.warmup), str(seed)]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        json.loads(answer)
        cache.mkdir(parents=True, exist_ok=True)
        found.with_suffix(".new").write_text(answer)
        found.with_suffix(".new").rename(found)
    figure = json.loads(found.read_text())
    return {
        "stream": stream.title,
        "peer": peer,
        "version": version(peer),
        "seed": seed,
        "auc": f"{figure['auc']:.5f}",
        "average_precision": f"{figure['average_precision']:.5f}",
        "seconds": figure["seconds"],
    }
