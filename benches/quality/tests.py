"""Tests of the table: python3 benches/quality/tests.py (plain Python; the peers are not run)."""

import gzip
import hashlib
import tempfile
import tomllib
import unittest
from pathlib import Path

import alarms
import bars
import measured
import nab
import skab
import streams
import table
from larum import detectors
from permutation import permutation


class Permutation(unittest.TestCase):
    def test_is_that_of_numpy(self):
        # numpy 2.4.6: default_rng(seed).permutation(n)
        self.assertEqual(permutation(1, 10), [8, 4, 7, 0, 1, 2, 5, 9, 6, 3])
        self.assertEqual(permutation(7, 10), [8, 0, 7, 1, 3, 6, 2, 4, 5, 9])
        for seed, digest in ((1, "8de2b57cd44aa7fb"), (2, "451b7b812e12588d")):
            text = ",".join(map(str, permutation(seed, 7200)))
            self.assertEqual(hashlib.sha256(text.encode()).hexdigest()[:16], digest)
        self.assertEqual(permutation(5, 0), [])


class Streams(unittest.TestCase):
    def test_warm_up(self):
        rows = {351: 35, 768: 76, 999: 99, 1000: 256, 7200: 360, 11183: 559, 41188: 2000, 567498: 2000}
        self.assertEqual({n: streams.warmup_rows(n) for n in rows}, rows)

    def test_the_attack_is_no_feature_and_a_shuffle_keeps_rows_whole(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            with gzip.open(folder / "x.csv.gz", "wt") as file:
                file.write("a,attack,b,label\n" + "".join(f"{i},smurf,b{i},{i % 2}\n" for i in range(10)))
            written = streams.write(streams.Stream("x", "x.csv.gz", shuffled=True), folder, 1, folder)
            self.assertEqual(written.path.read_text().split(), ["a,b,label"] + [f"{i},b{i},{i % 2}" for i in permutation(1, 10)])
            self.assertEqual((written.rows, written.warmup), (10, 1))


class Nab(unittest.TestCase):
    def setUp(self):
        # 20 rows, 3 of probation, a window over rows 10 to 13.
        self.times = [f"t{i}" for i in range(20)]
        self.rows = nab.worth(self.times, [("t10", "t13")])

    def score(self, alarms, profile="standard"):
        scores = [1.0 if i in alarms else 0.0 for i in range(20)]
        return nab.best([scores], [self.rows], 1, nab.PROFILES[profile])

    def test_rows(self):
        self.assertEqual([row[0] for row in self.rows], list(range(3, 20)))
        worth = {row[0]: row[2] for row in self.rows}
        self.assertEqual([worth[i] for i in (3, 9)], [-1.0, -1.0])
        self.assertAlmostEqual(worth[10], 0.98661, 5)
        self.assertAlmostEqual(worth[13], 0.55459, 4)
        # One row after the window of four: a third of a width.
        self.assertAlmostEqual(worth[14], -0.68228, 4)

    def test_scores(self):
        self.assertAlmostEqual(self.score({10}), 100.0)
        # A second alarm in a window changes nothing; a late first one is worth less.
        self.assertAlmostEqual(self.score({10, 12}), 100.0)
        self.assertAlmostEqual(self.score({13}), 100 * (1 + 0.55459 / 0.98661) / 2, 1)
        # A false alarm far from any window, by profile: 0.11, 0.22, and 0.11 of 3.
        self.assertAlmostEqual(self.score({5, 10}), 100 - 11 / 2)
        self.assertAlmostEqual(self.score({5, 10}, "low FP"), 100 - 22 / 2)
        self.assertAlmostEqual(self.score({5, 10}, "low FN"), 100 - 11 / 3)
        # Rows of one score are alarmed together, the false one with the hit.
        self.assertAlmostEqual(self.score({10, 19}), 100 - 11 / 2, 2)
        # In the probation nothing counts.
        self.assertAlmostEqual(self.score({1, 10}), 100.0)

    def test_no_alarm_at_all_is_a_threshold_too(self):
        times = [f"t{i}" for i in range(200)]
        rows = nab.worth(times, [("t100", "t103")])
        self.assertEqual(nab.best([[0.0] * 200], [rows], 1, nab.PROFILES["standard"]), 0.0)

    def test_one_threshold_for_all_series(self):
        first, second = [0.0] * 20, [0.0] * 20
        first[10], second[10], second[5] = 0.9, 0.4, 0.5
        # Hitting the second window (at .4) takes the false alarm (at .5) with it.
        together = nab.best([first, second], [self.rows, self.rows], 2, nab.PROFILES["standard"])
        self.assertAlmostEqual(together, 100 * (4 - 0.11) / 4)

    def test_alarms_are_taken_as_they_are(self):
        alarms = [i in (5, 10, 12) for i in range(20)]
        self.assertAlmostEqual(nab.of_alarms([alarms], [self.rows], 1, nab.PROFILES["standard"]), self.score({5, 10, 12}))
        # Worse than none.
        alarms = [i == 5 for i in range(20)]
        self.assertAlmostEqual(nab.of_alarms([alarms], [self.rows], 1, nab.PROFILES["standard"]), -11 / 2)


class Alarms(unittest.TestCase):
    def test_tenths_are_counted_after_the_warm_up(self):
        # 256 rows of warm-up, then ten tenths of a hundred rows: one alarm in each, which is the budget.
        flags = [True] * 256 + ([True] + [False] * 99) * 10
        self.assertEqual([round(tenth, 9) for tenth in alarms.tenths(flags)], [1.0] * 10)

    def test_the_second_half_is_moved_by_deviations_of_the_whole(self):
        self.assertEqual(alarms.shifted([[0.0], [2.0], [0.0], [2.0]]), [[0.0], [2.0], [3.0], [5.0]])

    def test_rates_before_at_once_and_later(self):
        flags = [False] * 60_000
        flags[29_999] = flags[30_000] = flags[31_000] = flags[40_000] = flags[60_000 - 1] = True
        self.assertEqual([round(rate, 9) for rate in alarms.rates(flags)], [0.01, 0.1, round(1 / 90, 9), 0.01])

    def test_what_is_off_its_budget_is_named(self):
        fine = alarms.Shifted((1.0, 1.25, 1.0, 0.9), (1.0, 9.0, 1.0, 0.0))
        limits = {"alarms": {"off_max": 0.2, "off_after_shift_max": 0.3}}
        self.assertEqual(bars.alarms(limits, {"x": [0.9, 1.1]}, {"x": fine}), [])
        loud = alarms.Shifted((1.0, 1.0, 1.0, 1.4), (1.0, 1.0, 1.0, 1.0))
        self.assertEqual(len(bars.alarms(limits, {"x": [0.9, 0.7]}, {"x": loud})), 2)


class Skab(unittest.TestCase):
    def test_rules(self):
        scores = [0.9, 0.8, 0.6, 0.3, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0]
        truth = [True, False, True, True, False, False, False, False, False, False]
        found = skab.rules(scores, truth)
        # At .6: two of three found, one of seven normal rows alarmed, which is more than 14 %.
        self.assertEqual(found["default"], (4 / 6, 1 / 7, 0.6))
        self.assertEqual(found["best"], (2 / 4, 0.0, 0.9))

    def test_rows_of_one_score_are_alarmed_together(self):
        self.assertEqual([point[2] for point in skab.thresholds([0.5, 0.5, 0.1], [True, False, True])], [0.5, 0.1])


class Table(unittest.TestCase):
    def figures(self, title, score, **peers):
        return table.Figures(title, score, {"d": (0.5, 0.1)}, peers, {"batchIF": (0.99, 0.99)})

    def test_summary(self):
        results = [
            self.figures("a", (0.9, 0.3), X=(0.8, 0.4), Y=(0.7, 0.5)),
            self.figures("b", (0.6, 0.6), X=(0.65, 0.1), Y=(0.7, 0.2)),
        ]
        found = table.summary(results)
        self.assertAlmostEqual(found["auc"]["mean"], 0.75)
        self.assertAlmostEqual(found["auc"]["oracle"], 0.75)
        self.assertAlmostEqual(found["auc"]["short"], 0.1)
        self.assertEqual((found["auc"]["first"], found["auc"]["worst"]), (1, "b"))
        self.assertAlmostEqual(found["average_precision"]["oracle"], 0.35)
        self.assertEqual((found["average_precision"]["first"], found["average_precision"]["worst"]), (1, "a"))
        self.assertEqual([table.summary(results[:1])[measure]["first"] for measure in table.MEASURES], [1, 0])
        text = table.markdown(results)
        self.assertIn("| a | **.900**/.300 | .500/.100 | .800/.400 | .700/**.500** | .990/.990 |", text)
        self.assertIn("| mean | .750/.450 | .500/.100 | .725/.250 | .700/.350 | .990/.990 |", text)

    def test_a_model_that_learns_from_labels_has_no_column(self):
        models = {"linear_regression": {"auc": 0.8}, "svm": {"auc": 0.5, "accuracy": None}}
        self.assertEqual(list(detectors({"models": models})), ["linear_regression"])


class Bars(unittest.TestCase):
    def test_what_falls_below_is_named(self):
        limits = {"streams": {"a": {"auc": 0.8, "average_precision": 0.4}}}
        reached, fallen, unknown = (table.Figures(t, s, {}) for t, s in (("a", (0.8, 0.4)), ("a", (0.79, 0.4)), ("b", (1, 1))))
        self.assertEqual(bars.streams(limits, [reached]), [])
        self.assertEqual(bars.streams(limits, [fallen]), ["a: auc is 0.79, below its bar of 0.8"])
        self.assertEqual(bars.streams(limits, [unknown]), ["b: bars.toml has no bar for it"])
        self.assertEqual(bars.at_least("x", None, 0.1), ["x is none, below its bar of 0.1"])
        self.assertEqual(bars.at_least("x", float("nan"), 0.1), ["x is nan, below its bar of 0.1"])

    def test_bars_of_figures_are_reached_by_them(self):
        figures = table.Figures("a b", (0.8123, 0.4), {})
        text = bars.from_figures([figures])
        self.assertEqual(text, '[streams]\n"a b" = { auc = 0.802, average_precision = 0.380 }')
        self.assertEqual(bars.streams(tomllib.loads(text), [figures]), [])

    def test_the_oracle(self):
        summary = {"auc": {"mean": 0.8, "oracle": 0.81, "first": 5, "short": 0.03, "worst": "a"}}
        bar = lambda *three: {"oracle": {"auc": dict(zip(("ahead_min", "first_min", "short_max"), three))}}
        self.assertEqual(bars.oracle(bar(-0.011, 5, 0.03), summary), [])
        self.assertEqual(len(bars.oracle(bar(0, 6, 0.02), summary)), 3)

    def test_every_stream_has_a_bar_and_every_bar_a_stream(self):
        titles = {stream.title for stream in streams.STREAMS}
        self.assertEqual(set(tomllib.loads(bars.FILE.read_text())["streams"]), titles)


class Kept(unittest.TestCase):
    def test_every_peer_was_measured_on_every_stream_with_the_pinned_versions(self):
        figures = measured.read()
        for stream in streams.STREAMS:
            for peer in measured.LIBRARY:
                for seed in measured.SEEDS:
                    measured.kept(figures, peer, stream, seed)

    def test_a_figure_of_another_version_is_none(self):
        stream = streams.STREAMS[0]
        row = {"version": measured.version("HST"), "auc": "0.5", "average_precision": "0.1"}
        self.assertEqual(measured.kept({(stream.title, "HST", 1): row}, "HST", stream, 1), (0.5, 0.1))
        with self.assertRaisesRegex(measured.Missing, "river 0.0"):
            measured.kept({(stream.title, "HST", 1): row | {"version": "river 0.0"}}, "HST", stream, 1)
        with self.assertRaisesRegex(measured.Missing, "no figure"):
            measured.kept({}, "HST", stream, 1)

    def test_only_what_depends_on_a_seed_is_kept_by_seed(self):
        natural, shuffled = streams.STREAMS[:2]
        self.assertEqual([measured.seed_of("MAHA", natural, 3), measured.seed_of("MAHA", shuffled, 3), measured.seed_of("HST", natural, 3)], [0, 3, 3])


if __name__ == "__main__":
    unittest.main()
