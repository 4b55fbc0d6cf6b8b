#!/usr/bin/env python3
"""The lessons of `wattle explain`: a training step and a spiking neuron, their numbers, their pages, and what bad input is told."""
import collections
import json
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

import cli_test

INPUT = "1.5 1.5 1.5 .25 3 0 2 1".split()


class Explain(cli_test.Cli):
    def page(self, *args):
        path = self.dir / "page.html"
        self.ok("explain", *args, "--html", path)
        text = path.read_text()
        data, script = (re.findall(rf"<script{attr}>(.*?)</script>", text, re.S)[0] for attr in (' type="application/json" id="data"', ""))
        self.assertNotIn("<", data)
        # Two parts that take the same name at the top would stop the page before its first step.
        names = re.findall(r"^(?:async )?(?:function|const|let) +([\w$]+)", script, re.M)
        self.assertEqual([n for n, c in collections.Counter(names).items() if c > 1], [])
        for needed in ("steps", "drawStep", "show"):
            self.assertIn(needed, names)
        node = shutil.which("node")
        if node:
            file = self.file("page.js", script.encode())
            r = subprocess.run([node, "--check", file], capture_output=True, text=True)
            self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads(data)

    def test_a_training_step(self):
        text = self.ok("explain")
        for part in ("FORWARD", "BACKWARD", "OPTIMISER", "TOTALS", "add up to the counters", "modelled"):
            self.assertIn(part, text)
        lesson = json.loads(self.ok("explain", "--json"))
        self.assertTrue(lesson["counters_agree"])
        self.assertLess(lesson["loss_end"], lesson["losses"][0] / 1000)
        self.assertEqual([line["op"] for line in lesson["forward"]], ["linear", "tanh", "linear", "mse_loss"])
        self.assertEqual(self.page()["forward"][1]["op"], "tanh")

    def test_a_neuron(self):
        j = json.loads(self.ok("explain", "--snn", "--json", "--input", *INPUT))
        self.assertEqual("".join(str(int(s["s"])) for s in j["steps"]), "01001010")
        self.assertEqual([s["h"] for s in j["steps"]], [.75, 1.125, .75, .5, 1.75, 0, 1, .5])
        self.assertEqual([s["v"] for s in j["steps"]], [.75, 0, .75, .5, 0, 0, 0, .5])
        self.assertTrue(j["agrees"])
        # By hand: the last step has nothing behind it, and its slope at h - v_th = -.5 is 1 / (1 + (pi / 2)^2).
        self.assertAlmostEqual(j["steps"][-1]["gh"], 0.2884004, 6)
        self.assertAlmostEqual(j["steps"][-1]["gx"], 0.1442002, 6)
        for k in ("forward", "backward"):
            self.assertGreater(j[k]["flops"], 0)
        self.assertEqual(self.page("--snn")["steps"], j["steps"])
        self.assertIn("agree.", self.ok("explain", "--snn"))

    def test_every_neuron_agrees_with_its_tape(self):
        for charge in ("integrate", "lif", "leaky"):
            for reset in ("hard", "soft", "none"):
                for more in ((), ("delayed=true",), ("detach_reset=true", "v_reset=.2"), ("decay_input=false", "strict=true")):
                    attrs = [f"charge={charge}", f"reset={reset}", "surrogate=sigmoid", *more]
                    j = json.loads(self.ok("explain", "--snn", "--json", "--input", *INPUT, "--attr", *attrs))
                    self.assertTrue(j["agrees"], attrs)
            attrs = [f"charge={charge}", "reset=clear", "delayed=true", "detach_reset=true"]
            j = json.loads(self.ok("explain", "--snn", "--json", "--input", *INPUT, "--attr", *attrs))
            self.assertTrue(j["agrees"], attrs)
            lost = [t for t in range(1, len(INPUT)) if j["steps"][t - 1]["s"]]
            self.assertTrue(lost and all(j["steps"][t]["h"] == 0 == j["steps"][t]["gx"] for t in lost))

    def test_what_is_refused(self):
        self.refused(["reset: found 'sft', expected hard, soft, none or clear"], "explain", "--snn", "--attr", "reset=sft")
        self.refused(["--attr reset", "expected name=value"], "explain", "--snn", "--attr", "reset")
        self.refused(["found 65 numbers, expected 1 to 64"], "explain", "--snn", "--input", *["1"] * 65)
        self.refused(["--attr requires --snn"], "explain", "--attr", "tau=3", code=2)
        self.refused(["steps and out"], "explain", "--snn", "--attr", "steps=3")
        self.refused(["found step 500, expected one of 1 to 200"], "explain", "--at", "500")
        page = Path(self.dir / "none" / "page.html")
        self.refused([str(page)], "explain", "--snn", "--html", page)


if __name__ == "__main__":
    cli_test.WATTLE = str(Path(sys.argv.pop(1)).resolve())
    unittest.main(verbosity=2)
