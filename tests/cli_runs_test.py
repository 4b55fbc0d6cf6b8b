#!/usr/bin/env python3
"""Trainings and studies from outside: the same bits in every run, after a kill, on a full disk, after Ctrl-C.

    python3 cli_runs_test.py PATH_OF_WATTLE [unittest arguments]
"""
import csv
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

import cli_test


class Training(cli_test.Cli):
    def train_args(self, name, epochs, *more, threads=1):
        return ["train", *cli_test.SMALL, "--data-dir", self.data, "--epochs", epochs, "--save",
                self.dir / f"{name}.safetensors", "--log", self.dir / f"{name}.csv", "--quiet", "--threads", threads, *more]

    def results(self, name):
        return (self.dir / f"{name}.safetensors").read_bytes(), (self.dir / f"{name}.csv").read_bytes()

    def test_same_bits_in_every_run_and_for_any_thread_count(self):
        for name, threads, seed in (("one", 1, 0), ("again", 1, 0), ("two", 2, 0), ("seed", 1, 1)):
            self.ok(*self.train_args(name, 2, "--seed", seed, threads=threads))
        self.assertEqual(self.results("one"), self.results("again"))
        self.assertEqual(self.results("one"), self.results("two"))
        self.assertNotEqual(self.results("one"), self.results("seed"))
        with open(self.dir / "one.csv") as f:
            rows = list(csv.DictReader(f))
        self.assertEqual([int(r["step"]) for r in rows], list(range(1, 9)))
        self.assertTrue(all(0 < float(r["loss"]) < 20 for r in rows))

    def test_init_no_shuffle_and_json(self):
        self.ok(*self.train_args("first", 1))
        report = json.loads(self.ok(*self.train_args("next", 1, "--init", self.dir / "first.safetensors", "--no-shuffle",
                                                     "--json")))
        self.assertEqual((report["steps"], report["epochs"]), (4, 1))
        self.assertNotEqual(self.results("first"), self.results("next"))

    def test_killed_training_ends_with_the_same_bits(self):
        epochs, steps = 60, 240
        state = ["--checkpoint", self.dir / "state", "--checkpoint-every", 3]
        self.ok(*self.train_args("whole", epochs))
        log, killed = self.dir / "parts.csv", 0
        for lines in (10, 60, 130):
            process = subprocess.Popen(self.command(*self.train_args("parts", epochs, *state)), stderr=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                if log.exists() and log.read_bytes().count(b"\n") > lines:
                    time.sleep(random.random() * 0.01)
                    process.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.001)
            killed += process.wait() == -signal.SIGKILL
        self.assertEqual(killed, 3, "the training was over before it could be killed")
        r = self.run_cli(*self.train_args("parts", epochs, *state))
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(self.results("parts")[1].count(b"\n"), steps + 1)
        self.assertEqual(self.results("parts"), self.results("whole"))
        self.refused(["belongs to another training", "lr 0.5"], *self.train_args("parts", epochs, *state, "--lr", 0.5))

    def test_full_disk_leaves_the_old_checkpoint(self):
        state = ["--checkpoint", self.dir / "state"]
        self.ok(*self.train_args("whole", 3))
        self.ok(*self.train_args("parts", 1, *state))
        checkpoint = self.dir / "state" / "training.safetensors"
        before = checkpoint.read_bytes()

        def small_files():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2))

        self.refused(["training.safetensors", "cannot write: File too large", "the file was left as it was"],
                     *self.train_args("parts", 3, *state), preexec_fn=small_files)
        self.assertEqual(checkpoint.read_bytes(), before)
        self.assertEqual(os.listdir(self.dir / "state"), [checkpoint.name])
        self.ok(*self.train_args("parts", 3, *state))
        self.assertEqual(self.results("parts"), self.results("whole"))

    def test_log_that_cannot_grow(self):
        def small_files():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

        self.refused(["losses.csv: cannot write: File too large"], "train", *cli_test.SMALL, "--data-dir", self.data,
                     "--epochs", 3, "--quiet", "--log", self.dir / "losses.csv", preexec_fn=small_files)

    def test_really_full_disk(self):
        script = self.file("full.sh", b"""
            disk=$1; shift
            mount -t tmpfs -o size=400k tmpfs "$disk" || exit 77
            "$@" --epochs 1 --checkpoint "$disk/state" || exit 78
            cp "$disk/state/training.safetensors" "$disk.before"
            head -c 1000000 /dev/zero > "$disk/fill" 2>/dev/null
            "$@" --epochs 2 --checkpoint "$disk/state"; code=$?
            cmp "$disk/state/training.safetensors" "$disk.before" || exit 79
            exit $code""")
        disk = self.dir / "disk"
        disk.mkdir()
        r = subprocess.run(["unshare", "-rm", "sh", script, disk, *self.command("train", *cli_test.SMALL, "--data-dir", self.data,
                                                                                "--quiet")],
                           capture_output=True, text=True, timeout=60) if shutil.which("unshare") else None
        if r is None or r.returncode == 77 or "unshare" in r.stderr:
            self.skipTest("no file system can be mounted here")
        self.assertEqual(r.returncode, 1, r.stdout + r.stderr)
        self.assertIn("cannot write: No space left on device", r.stderr)


class Study(cli_test.Cli):
    def runs(self, name):
        with open(self.dir / name / "runs.csv") as f:
            return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(f)]

    def args(self, name, batch=16):
        return ["study", "layers", "--data-dir", self.data, "--batch", batch, "--epochs", 3, "--seeds", 2, "--threads", 1,
                "--nets", "densepoly2,cnn311,cnn310,denselinear2", "--out", self.dir / name]

    def test_interrupted_study_continues(self):
        self.ok(*self.args("whole"))
        process = subprocess.Popen(self.command(*self.args("parts")), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        runs = self.dir / "parts" / "runs.csv"
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if runs.exists() and runs.read_bytes().count(b"\n") > 2:
                process.send_signal(signal.SIGINT)
                break
            time.sleep(0.002)
        _, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, stderr)
        self.assertIn("the same command continues", stderr)
        done = self.runs("parts")
        self.assertTrue(2 <= len(done) < 8, done)
        self.assertEqual(done, self.runs("whole")[:len(done)])
        self.ok(*self.args("parts"))
        self.assertEqual(self.runs("parts"), self.runs("whole"))
        self.assertEqual(sorted(os.listdir(self.dir / "parts")), ["layers.csv", "report.html", "runs.csv", "study.json"])
        self.refused(["other settings", "batch: 16 before, 8 now"], *self.args("parts", batch=8))


if __name__ == "__main__":
    cli_test.WATTLE = str(Path(sys.argv.pop(1)).resolve())
    unittest.main(verbosity=2)
