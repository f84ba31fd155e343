"""Prequential accuracy, anomalies found with a budget of labels, and the speed of folding: larum and its peers in one run."""

import argparse
import csv
import gzip
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import deque
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAM = os.environ["LARUM_PROGRAM"]

# Every model that learns from labels online, with nothing tuned.
ONLINE = """
[[models]]
name = "logistic_regression"
kind = "logistic_regression"
[[models]]
name = "svm"
kind = "svm"
[[models]]
name = "label_regression"
kind = "linear_regression"
target = "label"
[[models]]
name = "rbf"
kind = "svm"
kernel = "rbf"
"""
# The default detectors, and trees that are refitted.
TREES = """
[[models]]
kind = "linear_regression"
[[models]]
kind = "nearest_neighbours"
[[models]]
kind = "isolation_forest"
[[models]]
kind = "extra_trees"
"""


def read(path):
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    features = [name for name in rows[0] if name not in ("label", "attack")]
    return features, rows


def replay(path, features, models, *arguments):
    """report.json of a file of numbers."""
    with tempfile.TemporaryDirectory() as folder:
        config, report = Path(folder) / "larum.toml", Path(folder) / "report.json"
        fields = "\n".join(f'"{name}" = "double"' for name in features)
        config.write_text(f'[kafka]\nevents = "rows"\n[event.fields]\n{fields}\n{models}')
        command = [PROGRAM, "replay", "-c", config, "-i", path, "--label", "label", "--report", report, *arguments]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
        return json.loads(report.read_text())


def river_model():
    from river import linear_model, preprocessing

    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    return lambda x: bool(model.predict_one(x)), lambda x, y: model.learn_one(x, y)


def scikit_learn_model():
    from sklearn.linear_model import SGDClassifier
    from sklearn.preprocessing import StandardScaler

    scaler, model, fitted = StandardScaler(), SGDClassifier(loss="log_loss", random_state=1), []

    def predict(x):
        return bool(fitted) and bool(model.predict(scaler.transform([list(x.values())]))[0])

    def learn(x, y):
        row = [list(x.values())]
        scaler.partial_fit(row)
        model.partial_fit(scaler.transform(row), [y], classes=[False, True])
        fitted.append(True) if not fitted else None

    return predict, learn


def prequential(make, features, rows, delay):
    """The accuracy of a peer: it predicts, and learns each label so many rows later."""
    predict, learn = make()
    waiting, right = deque(), 0
    for row in rows:
        x, y = {name: float(row[name]) for name in features}, row["label"] == "1"
        right += predict(x) == y
        waiting.append((x, y))
        if len(waiting) > delay:
            learn(*waiting.popleft())
    return right / len(rows)


def accuracy(streams):
    figures = {}
    print("\nPrequential accuracy\n\n| stream, labels | " + " | ".join(
        ["logistic_regression", "svm", "label_regression", "rbf", "River logistic regression", "scikit-learn SGD"]) + " |")
    print("| --- " * 7 + "|")
    for name, delay in (("bananas_river", 0), ("phishing_river", 0), ("elec2", 10)):
        path = streams / f"{name}.csv.gz"
        features, rows = read(path)
        models = replay(path, features, ONLINE, "--label-delay", delay)["models"]
        ours = {model: models[model]["accuracy"] for model in ("logistic_regression", "svm", "label_regression", "rbf")}
        river = prequential(river_model, features, rows, delay)
        scikit = prequential(scikit_learn_model, features, rows, delay)
        print(f"| {name}, {delay} rows late | " + " | ".join(f"{value:.4f}" for value in [*ours.values(), river, scikit]) + " |")
        figures |= {f"{name}.{model}": value for model, value in ours.items()}
        figures[f"{name}.behind_river"] = river - ours["logistic_regression"]
    return figures


def budget(streams, seeds):
    figures = {}
    print("\nAnomalies found with so many labels, one after the other from the whole set, trees refitted after each\n")
    print("| set | labels | mean | by seed |\n| --- | --- | --- | --- |")
    for name, labels in (("aad_abalone", 100), ("aad_ann_thyroid_1v3", 100), ("aad_mammography", 300), ("aad_electricity", 500)):
        path = streams / f"{name}.csv.gz"
        features, _ = read(path)
        found = [
            replay(path, features, TREES, "--feedback", f"{labels}/all", "--refit", 1, "--seed", seed)["reviewed_anomalies"]
            for seed in seeds
        ]
        print(f"| {name} | {labels} | {statistics.mean(found):.1f} | {', '.join(map(str, found))} |", flush=True)
        figures[f"{name}.found"] = statistics.mean(found)
    return figures


def speed(_streams):
    """Examples a second, median of criterion's samples; Vowpal Wabbit's of five runs over the same examples as text."""
    import vowpalwabbit

    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "examples.vw"
        environment = os.environ | {"LARUM_FOLD_VW": str(text)}
        command = ["cargo", "bench", "--locked", "--bench", "fold", "--manifest-path", str(HERE / "../../Cargo.toml")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            sys.exit(done.stderr)
        rates = {}
        for name in ("from the JSON of the label log", "from entries that have been read"):
            found = re.search(re.escape(name) + r"\s.*?thrpt:\s+\[\S+ \S+ (\S+) (K|M)elem/s", done.stdout, re.S)
            rates[name] = float(found[1]) * (1.0 if found[2] == "M" else 1e-3)
        examples, seconds = sum(1 for _ in open(text)), []
        for _ in range(5):
            begin = time.perf_counter()
            vowpalwabbit.Workspace(f"-d {text} --loss_function logistic --quiet").finish()
            seconds.append(time.perf_counter() - begin)
        theirs = examples / statistics.median(seconds) / 1e6
    print("\nFolding labels, 20 dense features, M examples/s\n\n| | M/s | of Vowpal Wabbit |\n| --- | --- | --- |")
    print(f"| Vowpal Wabbit, from text | {theirs:.2f} | 1 |")
    for name, rate in rates.items():
        print(f"| larum, {name} | {rate:.2f} | {rate / theirs:.2f} |")
    return {"fold.entries": rates["from entries that have been read"], "fold.json": rates["from the JSON of the label log"]}


def latency(_streams):
    """The 99th percentile of /v1/predict, without and during refits, in one service."""
    import threading
    import urllib.request

    def call(method, path, body=None, kind="application/json"):
        request = urllib.request.Request(url + path, data=body, method=method, headers={"content-type": kind})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def wait(task):
        while task["state"] in ("queued", "running"):
            time.sleep(0.05)
            task = call("GET", f"/v1/tasks/{task['id']}")
        if task["state"] != "done":
            sys.exit(f"the task failed: {task}")
        return task

    demo = subprocess.Popen([PROGRAM, "demo", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        url = next(found[0] for line in demo.stdout if (found := re.search(r"http://127.0.0.1:\d+", line)))
        threading.Thread(target=demo.stdout.read, daemon=True).start()
        for _ in range(300):
            try:
                call("GET", "/readyz")
                break
            except OSError:
                time.sleep(0.1)
        shop = (HERE / "../../datasets/shop.ndjson.gz").read_bytes()
        wait(call("POST", "/v1/training-data?label=anomaly", shop, "application/gzip"))
        event = gzip.decompress(shop).splitlines()[0]
        names = [model["name"] for model in call("GET", "/v1/models")["models"] if model["learns_from"] == "labels"]

        def predict(until):
            times = []
            while not until(len(times)):
                begin = time.perf_counter()
                call("POST", "/v1/predict", event)
                times.append(1e3 * (time.perf_counter() - begin))
            return times

        predict(lambda count: count >= 500)
        rounds = []
        for _ in range(3):
            without = predict(lambda count: count >= 2_000)
            tasks = [call("POST", f"/v1/models/{name}/retrain?dry_run=true") for name in names for _ in range(2)]
            done = []
            waiter = threading.Thread(target=lambda: done.extend(wait(task) for task in tasks))
            waiter.start()
            during = predict(lambda count: not waiter.is_alive() and count >= 200)
            rounds.append([statistics.quantiles(times, n=100)[98] for times in (without, during)])
    finally:
        demo.terminate()
        demo.wait()
    without, during = (statistics.median(column) for column in zip(*rounds))
    print("\n/v1/predict, 99th percentile in ms, medians of three rounds\n\n| without | during refits | ratio |\n| --- | --- | --- |")
    print(f"| {without:.2f} | {during:.2f} | {during / without:.2f} |")
    return {"predict.p99_ratio_behind": during / without}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("streams", type=Path, nargs="?", help="the folder of the public streams")
    parser.add_argument("--parts", default="accuracy,budget,speed,latency")
    parser.add_argument("--seeds", default="1,2,3,4,5", help="of the part budget")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    parts = {"latency": latency, "accuracy": accuracy, "budget": lambda streams: budget(streams, seeds), "speed": speed}
    figures = {}
    for part in arguments.parts.split(","):
        if part not in parts:
            sys.exit(f"there is no part {part!r}: {', '.join(parts)}")
        if part in ("accuracy", "budget") and not (arguments.streams and arguments.streams.is_dir()):
            sys.exit(f"the part {part} needs the folder of the public streams (benches/quality/README.md says how to get them)")
        figures |= parts[part](arguments.streams)
    if arguments.check:
        below = []
        for name, bar in tomllib.loads((HERE / "bars.toml").read_text())["bars"].items():
            figure = figures.get(name)
            # A bar of a part that was not asked for is not held.
            if figure is not None and not (figure <= bar if "behind" in name else figure >= bar):
                below.append(f"{name}: {figure:.4f}, bar {bar}")
        print("\n" + ("\n".join(below) or "every bar is reached"))
        sys.exit(bool(below))


if __name__ == "__main__":
    main()
