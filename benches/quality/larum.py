"""`larum replay` as a user runs it: a file in, its report and scores out. Nothing is configured, and no label is given back."""

import csv
import json
import subprocess
import tempfile
from pathlib import Path


class Larum:
    def __init__(self, program):
        self.program = program

    def version(self):
        return self._run("--version").strip()

    def report(self, path, *arguments):
        """report.json of a file."""
        with tempfile.TemporaryDirectory() as folder:
            return self._replay(path, Path(folder), *arguments)

    def scores(self, path, rows, *arguments):
        """The scores of a file's rows, by `score` and by the name of each model that needs no labels (a row that larum refused has 0), and which
        rows alarmed."""
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "scores.csv"
            report = self._replay(path, Path(folder), "-o", output, *arguments)
            columns = {"score": "score"} | {f"score:{name}": name for name in detectors(report)}
            scores, alarms = {name: [0.0] * rows for name in columns.values()}, [False] * rows
            with open(output, newline="") as file:
                for line in csv.DictReader(file):
                    row = int(line["row"]) - 1
                    alarms[row] = line["alarm"] == "1"
                    for name, column in columns.items():
                        scores[column][row] = float(line[name])
        return scores, alarms

    def alarms(self, path, features, decision, seed):
        """(alarm, p-value) of each row of a file of numbers, under a `[decision]`."""
        with tempfile.TemporaryDirectory() as folder:
            config, output = Path(folder) / "alarms.toml", Path(folder) / "alarms.csv"
            fields = "\n".join(f'{name} = "double"' for name in features)
            config.write_text(f'[kafka]\nevents = "rows"\n[event.fields]\n{fields}\n[decision]\n{decision}\n')
            self._replay(path, Path(folder), "-c", config, "-o", output, "--seed", seed)
            with open(output, newline="") as file:
                return [(line["alarm"] == "1", float(line["p_value"])) for line in csv.DictReader(file)]

    def sample(self, events, seed):
        """report.json of the synthetic traffic, with the configuration that `larum generate` writes for it."""
        with tempfile.TemporaryDirectory() as folder:
            config, traffic = Path(folder) / "shop.toml", Path(folder) / "shop.ndjson"
            config.write_text(self._run("generate", "--config"))
            self._run("generate", "--events", events, "--seed", seed, "--truth", "-o", traffic)
            return self._replay(traffic, Path(folder), "-c", config, "--label", "anomaly", "--seed", seed)

    def _replay(self, path, folder, *arguments):
        report = folder / "report.json"
        self._run("replay", "-i", path, "--report", report, *arguments)
        return json.loads(report.read_text())

    def _run(self, *arguments):
        command = [str(self.program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout


def detectors(report):
    """The models of a report that need no labels, with their figures."""
    return {name: figures for name, figures in report["models"].items() if "accuracy" not in figures}
