#!/usr/bin/env python3
"""Experts over the ranks of an mpirun: the losses of one process, a killed rank, and the checkpoint that goes on.
Skipped where the build found no MPI."""
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

import cli_test

ROOT = ["--allow-run-as-root"] if os.getuid() == 0 else []


def losses(folder):
    return [float(line.split(",")[1]) for line in (folder / "losses.csv").read_text().split()[1:]]


class Ranks(cli_test.Cli):
    def setUp(self):
        super().setUp()
        if not (Path(cli_test.WATTLE).parent / "libwattle_mpi.so").exists() or not shutil.which("mpirun"):
            self.skipTest("built without MPI")
        r = random.Random(1)
        self.text = self.file("text.txt", "".join(f"{r.choice(['red', 'green', 'blue'])} and " for _ in range(30000)).encode())

    def start(self, ranks, out, *more):
        command = ["mpirun", *ROOT, "--oversubscribe", "-n", ranks, cli_test.WATTLE] if ranks > 1 else [cli_test.WATTLE]
        command += ["moe", "train", "--text", self.text, "--batch", 8, "--validation-tokens", 640, "--out", out, *more]
        return subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)

    def train(self, ranks, out, *more):
        p = self.start(ranks, out, *more)
        text, error = p.communicate(timeout=200)
        self.assertEqual(p.returncode, 0, text + error)
        return text

    def compare(self, arm, within, *options):
        one = self.dir / f"{arm}-1"
        self.train(1, one, "--arm", arm, "--steps", 50, "--lr", 1e-3, *options)
        for ranks in (2, 4):
            many = self.dir / f"{arm}-{ranks}"
            text = self.train(ranks, many, "--arm", arm, "--steps", 50, "--lr", 1e-3, *options)
            self.assertEqual(len(losses(many)), 50)
            self.assertLess(max(abs(a - b) for a, b in zip(losses(one), losses(many))), within, (arm, ranks))
            for r in range(ranks):
                self.assertRegex(text, rf"rank {r}: sent [\d.]+ [kM]B in \d+ calls, .* J \(modelled\)")

    def test_losses_of_one_process(self):
        # Ranks add the same numbers in another order. In f32 a learnt choice between two nearly equal experts may turn
        # on the last bit of such a sum, so learnt gates are compared in f64; experts by a hash in f32, at a rate where
        # AdamW does not magnify that bit of a vanishing gradient (3e-3 leaves 2e-5).
        self.compare("hash", 1e-5)
        for arm in ("segments", "auxfree"):
            self.compare(arm, 1e-8, "--dtype", "f64", "--length", 8)

    def test_a_killed_rank_ends_the_run_and_the_checkpoint_goes_on(self):
        whole, cut = self.dir / "whole", self.dir / "cut"
        options = ("--arm", "m4", "--steps", 60, "--checkpoint-every", 4)
        self.train(2, whole, *options)
        p = self.start(2, cut, *options)
        while not (cut / "checkpoint/latest").exists():
            self.assertIsNone(p.poll(), "ended before its first checkpoint")
            time.sleep(0.01)
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(p.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(children[-1]), signal.SIGKILL)
        _, error = p.communicate(timeout=100)
        self.assertNotEqual(p.returncode, 0)
        self.assertIn("signal 9", error)
        self.assertLess(int((cut / "checkpoint/latest").read_text()), 60)
        self.train(2, cut, *options)
        self.assertEqual((cut / "losses.csv").read_bytes(), (whole / "losses.csv").read_bytes())
        last = "checkpoint/step-60/rank-1.safetensors"
        self.assertEqual((cut / last).read_bytes(), (whole / last).read_bytes())
        p = self.start(1, cut, *options)  # one process cannot continue what two ranks hold
        _, error = p.communicate(timeout=100)
        self.assertEqual(p.returncode, 1)
        self.assertIn("ranks 2, expected", error)


if __name__ == "__main__":
    cli_test.WATTLE = str(Path(sys.argv.pop(1)).resolve())
    unittest.main(verbosity=2)
