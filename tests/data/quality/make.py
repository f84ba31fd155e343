"""Writes quality.csv and expected.csv: scores with ties, their truth, and what scikit-learn says of them. numpy, scikit-learn."""

import numpy as np
from sklearn.metrics import accuracy_score, average_precision_score, brier_score_loss, log_loss, roc_auc_score

rng = np.random.default_rng(1)
with open("quality.csv", "w") as rows, open("expected.csv", "w") as expected:
    rows.write("case,score,truth\n")
    expected.write("case,auc,average_precision,log_loss,brier,accuracy\n")
    for case, (n, share, digits) in enumerate([(2, 0.5, 16), (50, 0.5, 1), (200, 0.1, 2), (400, 0.02, 16), (300, 0.3, 1)]):
        truth = rng.random(n) < share
        truth[:2] = [True, False]
        scores = np.round(1 / (1 + np.exp(-rng.normal(truth * 1.5 - 1, 1.5))), digits)
        for score, true in zip(scores, truth):
            rows.write(f"{case},{score!r},{int(true)}\n".replace("np.float64(", "").replace(")", ""))
        measures = [
            roc_auc_score(truth, scores), average_precision_score(truth, scores), log_loss(truth, scores),
            brier_score_loss(truth, scores), accuracy_score(truth, scores > 0.5),
        ]
        expected.write(",".join([str(case)] + [repr(float(m)) for m in measures]) + "\n")
