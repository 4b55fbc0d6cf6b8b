#!/usr/bin/env python3
"""Meters, joules, experiments and carbon from outside, on a host that has no meter and on one that is told a counter.

    python3 cli_energy_test.py PATH_OF_WATTLE [unittest arguments]
"""
import csv
import json
import sys
import unittest
from pathlib import Path

import cli_test

KINDS = {"measured", "attributed", "modelled_calibrated", "modelled_table", "tdp_estimate", "ratio", "unavailable"}
SOURCES = ["perf_event", "powercap", "msr", "hwmon", "jetson", "battery", "nvml", "external"]


def kinds_in(value):
    """Every value of a key `kind` or `joules_kind` in nested JSON."""
    if isinstance(value, dict):
        found = {v for k, v in value.items() if k in ("kind", "joules_kind") and isinstance(v, str) and v in KINDS}
        return found.union(*(kinds_in(v) for v in value.values())) if value else found
    return set().union(*(kinds_in(v) for v in value)) if isinstance(value, list) else set()


class Energy(cli_test.Cli):
    def setUp(self):
        super().setUp()
        (self.dir / "root").mkdir()
        # No meter, whatever machine this test runs on.
        self.none = {"WATTLE_METER_ROOT": str(self.dir / "root"), "WATTLE_NVML_LIB": "/nonexistent.so",
                     "WATTLE_METER_COMMAND": "", "WATTLE_METER_FILE": "", "WATTLE_ALLOW_MSR": "",
                     "WATTLE_CALIBRATION": "/nonexistent"}
        # 20 W on the machine's own clock.
        self.meter = {**self.none, "WATTLE_METER_COMMAND": "awk '{printf \"%.2f\", $1*20}' /proc/uptime", "WATTLE_METER_UPDATE_S": "0.01",
                      "WATTLE_METER_ROOT": ""}

    def train(self, env, *more):
        return json.loads(self.ok("train", *cli_test.SMALL, "--data-dir", self.data, "--epochs", 2, "--json", "--idle", 0.05,
                                  *more, env=env))

    def test_meter_lists_every_source_with_its_reason(self):
        found = json.loads(self.ok("meter", "--json", env=self.none))
        self.assertEqual((found["meter"], found["available"], found["power"]), ("none", False, []))
        self.assertEqual([s["name"] for s in found["sources"]], SOURCES)
        for source in found["sources"]:
            self.assertFalse(source["available"], source)
            self.assertGreater(len(source["reason"]), 10, source)
            self.assertEqual(source["domains"], [])
        text = self.ok("meter", env=self.none)
        self.assertIn("No energy can be measured here", text)
        self.assertNotIn("(measured", text)

    def test_nothing_is_called_measured_without_a_meter(self):
        self.assertEqual(kinds_in(self.train(self.none)), {"modelled_table", "unavailable"})
        self.assertEqual(kinds_in(json.loads(self.ok("cost", "--json", env=self.none))), {"modelled_table"})
        self.ok("study", "layers", "--data-dir", self.data, "--batch", 16, "--epochs", 1, "--seeds", 1, "--nets",
                "cnn311,densepoly3", "--out", self.dir / "study", env=self.none)
        study = json.loads((self.dir / "study/study.json").read_text())
        self.assertEqual(kinds_in(study), {"modelled_table", "unavailable"})
        report = (self.dir / "study/report.html").read_text()
        self.assertLess(report.index("no meter on this host"), report.index("<h1>"))
        self.ok("experiment", "--a", "true", "--b", "true", "--repetitions", 3, "--rest", 0, "--out", self.dir / "ab", env=self.none)
        with open(self.dir / "ab/samples.csv", newline="") as file:
            self.assertEqual({r["joules_kind"] for r in csv.DictReader(file)}, {"tdp_estimate"})
        self.assertIn("nothing changed", self.ok("calibrate", "--out", self.dir / "c.json", env=self.none))
        self.assertFalse((self.dir / "c.json").exists())

    def test_a_counter_is_measured_and_shared_out_exactly(self):
        found = json.loads(self.ok("meter", "--json", "--seconds", 0.3, env=self.meter))
        self.assertTrue(found["meter"].startswith("external awk"))
        # /proc/uptime moves every 10 ms and awk takes its time on a busy machine: the order of magnitude.
        self.assertTrue(5 < found["power"][0]["watts"] < 80, found)
        report = self.train(self.meter)
        self.assertEqual(report["joules"]["kind"], "measured")
        self.assertEqual(report["joules"]["uj"], report["joules_idle"]["uj"] + report["joules_net"]["uj"])
        self.assertIn("measured by external", report["energy"])
        self.ok("study", "layers", "--data-dir", self.data, "--batch", 4, "--epochs", 3, "--seeds", 1, "--nets", "cnn311,cnn340",
                "--out", self.dir / "study", env=self.meter)
        with open(self.dir / "study/runs.csv", newline="") as file:
            runs = {(r["linear"], r["conv"]): r for r in csv.DictReader(file)}
        with open(self.dir / "study/layers.csv", newline="") as file:
            layers = list(csv.DictReader(file))
        for (linear, conv), run in runs.items():
            own = [r for r in layers if (r["linear"], r["conv"]) == (linear, conv)]
            self.assertEqual(sum(round(float(r["joules"]) * 1e6) for r in own), round(float(run["joules"]) * 1e6))
            self.assertEqual(run["joules_kind"], "measured")
            self.assertEqual({r["joules_kind"] for r in own}, {"attributed"})
            self.assertIn("(unattributed)", {r["layer"] for r in own})

    def test_a_meter_that_fails_is_not_zero(self):
        broken = {**self.meter, "WATTLE_METER_COMMAND": f"test -e {self.dir}/dead && echo oops || cat /proc/uptime | cut -d' ' -f1"}
        self.assertTrue(json.loads(self.ok("meter", "--json", "--seconds", 0.1, env=broken))["available"])
        (self.dir / "dead").write_text("")
        found = json.loads(self.ok("meter", "--json", env=broken))
        self.assertFalse(found["available"])
        self.assertIn("found 'oops'", found["sources"][-1]["reason"])
        self.refused("WATTLE_METER_UPDATE_S: found 'soon'", "meter", env={**self.none, "WATTLE_METER_UPDATE_S": "soon"})

    def test_trace_and_prometheus(self):
        self.train(self.none, "--trace", self.dir / "t.json", "--prometheus", self.dir / "w.prom")
        trace = json.loads((self.dir / "t.json").read_text())
        ops = [e for e in trace["traceEvents"] if e.get("cat") == "op"]
        self.assertEqual(sum(e["args"]["uj"] for e in ops), trace["otherData"]["total_uj"])
        self.assertIn("wattle_energy_joules_total{", (self.dir / "w.prom").read_text())
        for option in ("--trace", "--prometheus", "--save"):  # before the first step, not after the last
            self.refused("/nonexistent/x: cannot create", "train", *cli_test.SMALL, "--data-dir", self.data, option,
                         "/nonexistent/x", "--quiet", env=self.none)
        self.refused("found -1, expected a number >= 0", "train", "--idle", -1, code=2)

    def test_experiment_goes_on_and_refuses_another(self):
        flaky = f"if test -e {self.dir}/stop; then echo broken >&2; exit 7; fi"
        ab = ["experiment", "--a", "true", "--b", flaky, "--repetitions", 4, "--rest", 0, "--warmup", 0, "--out", self.dir / "ab"]
        self.ok(*ab, env=self.none)
        before = (self.dir / "ab/samples.csv").read_text()
        self.assertEqual(before.count("\n"), 9)
        (self.dir / "ab/samples.csv").write_text("\n".join(before.split("\n")[:4]) + "\n")
        (self.dir / "stop").write_text("")
        self.refused(["ended with exit code 7: broken", "are kept in"], *ab, code=7, env=self.none)
        (self.dir / "stop").unlink()
        self.ok(*ab, env=self.none)
        after = (self.dir / "ab/samples.csv").read_text()
        self.assertEqual([r.split(",")[:4] for r in after.split("\n")], [r.split(",")[:4] for r in before.split("\n")])
        ab[4] = "false"
        self.refused("false", *ab, env=self.none)

    def test_carbon(self):
        found = json.loads(self.ok("carbon", "--joules", 3.6e6, "--kind", "measured", "--g-per-kwh", 445, "--json"))
        self.assertAlmostEqual(found["operational"]["g"], 445, places=6)
        self.refused("--kind: say where the joules come from", "carbon", "--joules", 1)
        self.refused(["found 'XX'", "NL"], "carbon", "--joules", 1, "--kind", "ratio", "--region", "XX")
        forecast = self.file("f.csv", b"time,g\n0,500\n1,100\n2,x\n")
        self.refused("f.csv line 4: found 'x'", "carbon", "--schedule", forecast, "--run-hours", 1)
        forecast.write_bytes(b"time,g\n0,500\n1,100\n2,300\n")
        self.assertEqual(json.loads(self.ok("carbon", "--schedule", forecast, "--run-hours", 1, "--json"))["start_hour"], 1)
        self.assertEqual(len(self.ok("carbon", "--regions").splitlines()), 34)

    def test_formats_are_modelled_not_measured(self):
        found = json.loads(self.ok("formats", "--json"))
        self.assertEqual(kinds_in(found), {"modelled_table"})
        posit = next(f for f in found if f["format"] == "posit8")
        self.assertLess(posit["multiply_add_pj"]["low"], posit["multiply_add_pj"]["high"])

    def test_mlflow_addresses_and_a_server_that_is_away(self):
        self.refused("expected http://HOST:PORT", "study", "layers", "--data-dir", self.data, "--mlflow", "localhost:5000",
                     "--out", self.dir / "s")
        spool = self.dir / "spool"
        r = self.run_cli("train", *cli_test.SMALL, "--data-dir", self.data, "--epochs", 1, "--mlflow", "http://127.0.0.1:9",
                         "--mlflow-spool", spool, env=self.none)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("wattle mlflow deliver", r.stderr)
        self.assertEqual(len(list(spool.glob("*.jsonl"))), 1)
        r = self.run_cli("mlflow", "deliver", "--url", "http://127.0.0.1:9", "--spool", spool)
        self.assertEqual(r.returncode, 1)
        self.assertIn("pending", r.stdout)


if __name__ == "__main__":
    cli_test.WATTLE = str(Path(sys.argv.pop(1)).resolve())
    unittest.main(verbosity=2)
