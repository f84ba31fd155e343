"""The detectors that larum is held against, each over one stream: scores a row before it learns it, sees no label.

peers.py NAME FILE WARMUP SEED     prints {"auc", "average_precision", "seconds"} as JSON, the first WARMUP rows not counted.

Default settings everywhere; scaled where the library says so, or where it helps. Text columns become codes in the order of appearance
for trees, and one column per value for the others. Only nslkdd has text: there OIF reaches .88 with one column per value, .83 with codes;
for HST and batchIF codes are the better ones. Runs in the environment of requirements.txt.
"""

import csv
import json
import sys
import time

import numpy as np


def hst(rows, seed):
    from river import anomaly, preprocessing

    return river(preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(seed=seed), rows)


def ocsvm(rows, _seed):
    from river import anomaly, preprocessing

    return river(preprocessing.StandardScaler() | anomaly.OneClassSVM(), rows)


def rcf(rows, seed):
    import rcf3

    return one_by_one(rcf3.Forest(rows.shape[1], seed=seed), standardised(rows))


def oif(rows, seed):
    import rcf3

    # score, then update: `update_and_score` would learn the row first.
    return one_by_one(rcf3.OnlineIForest(rows.shape[1], seed=seed), rows)


def maha(rows, _seed):
    """Squared distance under the mean and covariance of all rows before; its inverse is renewed every 16 rows once there are 1,000."""
    width = rows.shape[1]
    mean, scatter, scores = np.zeros(width), np.zeros((width, width)), np.zeros(len(rows))
    for n, row in enumerate(rows):
        if n >= 2 and (n < 1000 or n % 16 == 0):
            covariance = scatter / n
            deviation = np.sqrt(np.diag(covariance))
            deviation[deviation == 0] = 1
            scale = np.outer(deviation, deviation)
            # A ridge on the correlations, so that rows fewer than columns, and columns that repeat others, have an inverse.
            inverse = np.linalg.inv(covariance / scale + 1e-6 * np.eye(width)) / scale
            centre = mean
        if n >= 2:
            scores[n] = (row - centre) @ inverse @ (row - centre)
        step = row - mean
        mean = mean + step / (n + 1)
        scatter += np.outer(step, row - mean)
    return scores


def knnw(rows, _seed, neighbour=10, window=1024):
    """Distance to the 10th neighbour among the last 1,024 rows, each standardised as it came."""
    rows = standardised(rows)
    scores = np.zeros(len(rows))
    for n in range(neighbour, len(rows)):
        squares = ((rows[max(0, n - window) : n] - rows[n]) ** 2).sum(axis=1)
        scores[n] = np.partition(squares, neighbour - 1)[neighbour - 1]
    return scores


def batch_if(rows, seed):
    """Not streaming: has seen all rows before it scores the first."""
    from sklearn.ensemble import IsolationForest

    return -IsolationForest(random_state=seed).fit(rows).score_samples(rows)


# By name: the detector, and whether text becomes codes or one column per value.
PEERS = {
    "HST": (hst, True),
    "OCSVM": (ocsvm, False),
    "RCF": (rcf, False),
    "OIF": (oif, True),
    "MAHA": (maha, False),
    "KNNW": (knnw, False),
    "batchIF": (batch_if, True),
}


def standardised(rows):
    """Each row by the mean and deviation of those before it (Welford 1962)."""
    mean, squares, out = np.zeros(rows.shape[1]), np.zeros(rows.shape[1]), np.zeros(rows.shape)
    for n, row in enumerate(rows):
        if n >= 2:
            # The floor makes a first departure from a constant stand out; with 1 instead, RCF on annthyroid falls from .82 to .78.
            out[n] = (row - mean) / np.sqrt(squares / (n - 1) + 1e-9)
        step = row - mean
        mean = mean + step / (n + 1)
        squares = squares + step * (row - mean)
    return out


def river(model, rows):
    names, scores = [f"f{i}" for i in range(rows.shape[1])], []
    for row in rows.tolist():
        row = dict(zip(names, row))
        scores.append(model.score_one(row))
        model.learn_one(row)
    return np.array(scores)


def one_by_one(model, rows):
    scores = []
    for row in rows.tolist():
        scores.append(model.score(row))
        model.update(row)
    return np.array(scores)


def load(path, codes):
    """Features as numbers, and the truth, which is the last column."""
    with open(path, newline="") as file:
        rows = list(csv.reader(file))[1:]
    *columns, truth = zip(*rows)
    numbers = []
    for cells in columns:
        try:
            numbers.append(np.array(cells, float))
        except ValueError:
            seen = {}
            coded = np.array([seen.setdefault(cell, len(seen)) for cell in cells], float)
            numbers += [coded] if codes else [(coded == value).astype(float) for value in range(len(seen))]
    return np.column_stack(numbers), np.array(truth, int)


def main(name, path, warmup, seed):
    from sklearn.metrics import average_precision_score, roc_auc_score

    detector, codes = PEERS[name]
    rows, truth = load(path, codes)
    begin = time.perf_counter()
    scores = detector(rows, seed)[warmup:]
    seconds = time.perf_counter() - begin
    auc, precision = roc_auc_score(truth[warmup:], scores), average_precision_score(truth[warmup:], scores)
    print(json.dumps({"auc": float(auc), "average_precision": float(precision), "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
