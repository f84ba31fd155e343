"""Makes rows.csv, optimum.json and refit.json, the references for models that learn from labels: `python3 make.py`, here.

Python 3.11, numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1. Seeded: the same versions give the same files.
"""

import csv
import json
import pathlib

import numpy as np
from scipy.optimize import linprog, minimize
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

HERE = pathlib.Path(__file__).resolve().parent
ROWS = 600  # of each part
GAMMA = 1 / 5
C = 1.0
TREE_SEEDS = 5


def draw():
    """Draw all rows: a ring and an xor decide the label, with a linear part and noise."""
    rng = np.random.default_rng(20240611)
    hidden = rng.normal(size=(2 * ROWS, 5))
    ring = np.hypot(hidden[:, 0], hidden[:, 1])
    score = 1.6 * (ring - 1.25) - 1.3 * np.tanh(2 * hidden[:, 2] * hidden[:, 3]) + 1.2 * hidden[:, 4] + 0.6 * hidden[:, 0]
    score += rng.normal(scale=0.5, size=2 * ROWS)
    label = (score > np.quantile(score, 0.7)).astype(int)
    flip = rng.random(2 * ROWS) < 0.04
    label = np.where(flip, 1 - label, label)
    rows = np.empty_like(hidden)
    rows[:, 0] = hidden[:, 0]
    rows[:, 1] = 1000 + 150 * hidden[:, 1]
    rows[:, 2] = 0.01 + 0.004 * hidden[:, 2]
    rows[:, 3] = -20 + 7 * hidden[:, 3]
    rows[:, 4] = np.sinh(1.5 * hidden[:, 4])  # the heavy tail
    return np.round(rows, 6), label


def compress(z):
    """Keep |z| <= 1, grow with the logarithm beyond."""
    size = np.abs(z)
    return np.where(size <= 1, z, np.sign(z) * (1 + np.log(np.maximum(size, 1))))


def linear_optima(z, y):
    """Minimise the mean loss over (w, b), with no regularisation."""
    n, d = z.shape
    inputs = np.hstack([z, np.ones((n, 1))])
    signed = y[:, None] * inputs

    def logistic(v):
        m = signed @ v
        return np.logaddexp(0, -m).mean(), -(signed * (1 / (1 + np.exp(m)))[:, None]).mean(axis=0)

    smooth = minimize(logistic, np.zeros(d + 1), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
    squares = np.linalg.lstsq(inputs, y, rcond=None)[0]
    # Hinge: minimise the mean slack s, with s >= 1 - m and s >= 0.
    plane = linprog(
        np.concatenate([np.zeros(d + 1), np.full(n, 1 / n)]),
        A_ub=np.hstack([-signed, -np.eye(n)]),
        b_ub=-np.ones(n),
        bounds=[(None, None)] * (d + 1) + [(0, None)] * n,
        method="highs",
    )

    def entry(loss, v):
        return {"mean_loss": float(loss), "weights": [float(w) for w in v[:d]], "bias": float(v[d])}

    return {
        "logistic": entry(smooth.fun, smooth.x),
        "hinge": entry(plane.fun, plane.x),
        "squared": entry(0.5 * ((1 - signed @ squares) ** 2).mean(), squares),
    }


def kernel_optimum(kernel, y):
    """Minimise 0.5 |f|^2 + C sum hinge, the bias inside the kernel, by dual coordinate ascent."""
    n = len(y)
    q = y[:, None] * y[None, :] * (kernel + 1)
    alpha, slope = np.zeros(n), -np.ones(n)  # slope = q alpha - 1
    rng = np.random.default_rng(1)
    for epoch in range(1, 200_001):
        for i in rng.permutation(n):
            step = min(max(alpha[i] - slope[i] / q[i, i], 0), C) - alpha[i]
            if step != 0:
                alpha[i] += step
                slope += step * q[i]
        if epoch % 10 == 0:
            slope = q @ alpha - 1
            norm = alpha @ (slope + 1)
            primal = 0.5 * norm + C * np.maximum(0, -slope).sum()
            dual = alpha.sum() - 0.5 * norm
            if primal - dual < 1e-7 * primal:
                break
    else:
        raise RuntimeError("the duality gap stayed open")
    return {
        "primal": float(primal),
        "dual": float(dual),
        "mean_hinge": float(np.maximum(0, -slope).mean()),
        "norm_squared": float(norm),
        "support": int((alpha > 0).sum()),
        "at_bound": int((alpha >= C).sum()),
    }


def references(train, y, test, truth):
    """AUC on the held-out rows of scikit-learn's models."""
    svc = {
        "svc_rbf": SVC(kernel="rbf", C=1, gamma=GAMMA),
        "svc_linear": SVC(kernel="linear", C=1),
        "svc_poly": SVC(kernel="poly", degree=3, gamma=GAMMA, coef0=1, C=1),
    }
    logistic = LogisticRegression(C=1, tol=1e-8, max_iter=10_000).fit(train, y)
    auc = {"logistic_regression": roc_auc_score(truth, logistic.decision_function(test))}
    for name, model in svc.items():
        auc[name] = roc_auc_score(truth, model.fit(train, y).decision_function(test))
    auc["ridge"] = roc_auc_score(truth, Ridge(alpha=1).fit(train, y).predict(test))
    trees = []
    for seed in range(TREE_SEEDS):
        model = ExtraTreesRegressor(n_estimators=100, max_features="sqrt", random_state=seed)
        trees.append(roc_auc_score(truth, model.fit(train, (y + 1) / 2).predict(test)))
    auc["extra_trees"] = float(np.mean(trees))
    auc["extra_trees_sd"] = float(np.std(trees, ddof=1))
    return {name: round(float(value), 6) for name, value in auc.items()}


def write(name, value):
    (HERE / name).write_text(json.dumps(value, indent=2) + "\n")


def main():
    rows, label = draw()
    with open(HERE / "rows.csv", "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["part", "x0", "x1", "x2", "x3", "x4", "label"])
        for i, (row, mark) in enumerate(zip(rows, label)):
            out.writerow(["train" if i < ROWS else "test", *(f"{v:.6f}" for v in row), int(mark)])
    mean, deviation = rows[:ROWS].mean(axis=0), rows[:ROWS].std(axis=0)
    z = compress((rows - mean) / deviation)
    train, test, y = z[:ROWS], z[ROWS:], 2.0 * label[:ROWS] - 1
    distance = ((train[:, None, :] - train[None, :, :]) ** 2).sum(axis=2)
    optimum = linear_optima(train, y)
    optimum["kernel_rbf"] = kernel_optimum(np.exp(-GAMMA * distance), y)
    optimum["kernel_poly"] = kernel_optimum((GAMMA * train @ train.T + 1) ** 3, y)
    write("optimum.json", optimum)
    write("refit.json", references(train, y, test, label[ROWS:]))


if __name__ == "__main__":
    main()
