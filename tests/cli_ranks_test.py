#!/usr/bin/env python3
"""Several ranks: experts over an mpirun, a killed rank and the checkpoint that goes on; shares of a batch over an
mpirun and over GPUs. Skipped where the build found no MPI or no CUDA."""
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


class ShareOfTheBatch(cli_test.Cli):
    """`train` over ranks: the losses and weights of one process, whoever sums the gradients."""
    NET = ["train", "--net", "lenet5", "--batch", 24, "--epochs", 2, "--optimizer", "sgd", "--lr", 0.05]

    def setUp(self):
        super().setUp()
        self.build = Path(cli_test.WATTLE).parent

    def result(self, name):
        steps = [float(line.split(",")[1]) for line in (self.dir / f"{name}.csv").read_text().split()[1:]]
        return steps, (self.dir / f"{name}.safetensors").read_bytes()

    def options(self, name, *more):
        return [*self.NET, "--data-dir", self.data, "--log", self.dir / f"{name}.csv",
                "--save", self.dir / f"{name}.safetensors", *more]

    def compare(self, name):
        one, weights = self.result("one")
        many, other = self.result(name)
        self.assertEqual(len(many), 6)  # 24, 24 and 16 images, twice
        self.assertLess(max(abs(a - b) for a, b in zip(one, many)), 1e-5)
        data = 8 + int.from_bytes(weights[:8], "little")
        numbers = [memoryview(w[data:]).cast("f") for w in (weights, other)]
        self.assertEqual(len(numbers[0]), len(numbers[1]))
        self.assertLess(max(abs(a - b) for a, b in zip(*numbers)), 1e-5)
        self.assertNotEqual(weights, other)  # sums in another order: these are not one process's

    def gpus(self, ranks, place, *command, **environment):
        env = {**os.environ, "WATTLE_CUDA_EMULATE": "1", "WATTLE_RANKS": str(ranks), "WATTLE_MEET": str(place),
               "WATTLE_NCCL": str(next(self.build.glob("tests/*fake_nccl.so"))), **environment}
        started = [subprocess.Popen(self.command(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                    env={**env, "WATTLE_RANK": str(r)}) for r in range(ranks)]
        return [(*p.communicate(timeout=200), p.returncode) for p in started]

    def test_over_mpi(self):
        if not (self.build / "libwattle_mpi.so").exists() or not shutil.which("mpirun"):
            self.skipTest("built without MPI")
        self.ok(*self.options("one"))
        for ranks in (2, 3):
            r = subprocess.run(["mpirun", *ROOT, "--oversubscribe", "-n", str(ranks), *self.command(*self.options(f"mpi{ranks}"))],
                               capture_output=True, text=True, timeout=200)
            self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
            self.compare(f"mpi{ranks}")
            self.assertEqual(r.stdout.count("test accuracy"), 3)  # two epochs and the end: rank 0 alone speaks
            self.assertIn(f"{ranks} ranks: ", r.stdout)

    def test_gpus_by_a_stand_in_for_nccl(self):
        if not (self.build / "libwattle_cuda13.so").exists():
            self.skipTest("built without CUDA")
        self.ok(*self.options("one"))
        for ranks, place in ((2, self.dir / "meet"), (3, "127.0.0.1:27621")):
            for out, error, code in self.gpus(ranks, place, *self.options(f"gpus{ranks}", "--device", "cuda")):
                self.assertEqual(code, 0, out + error)
            self.compare(f"gpus{ranks}")
        refusals = [
            (["--batch", 25], {}, "--batch: found 25, expected a multiple of 2 ranks"),
            (["--precision", "fp16"], {}, "--precision: found fp16 on 2 ranks, expected f32 or bf16"),
            ([], {"WATTLE_NCCL": "/nowhere/libnccl.so"}, "NCCL 2 cannot be used: /nowhere/libnccl.so"),
            ([], {"WATTLE_FAKE_NCCL_FAILS": "CommInitRank"}, "joining the ranks: NCCL says: invalid usage"),
            ([], {"WATTLE_FAKE_NCCL_FAILS": "AllReduce"}, "all_reduce: on cuda: a sum over ranks: NCCL says: unhandled cuda error"),
        ]
        for i, (more, environment, said) in enumerate(refusals):
            command = self.options("refused", "--device", "cuda")
            for option, value in zip(more[::2], more[1::2]):
                if option in command:
                    command[command.index(option) + 1] = value
                else:
                    command += [option, value]
            # Without NCCL rank 0 has no id to give, so nobody else would hear of it in time.
            ranks = 1 if "WATTLE_NCCL" in environment else 2
            for _, error, code in self.gpus(ranks, self.dir / f"meet{i}", *command, **environment):
                self.assertEqual(code, 1, error)
                self.assertIn(said, error)
        for _, error, code in self.gpus(2, self.dir / "cpu", *self.options("cpu")):
            self.assertEqual(code, 1)
            self.assertIn("WATTLE_RANKS: found 2 with --device cpu, expected cuda", error)


if __name__ == "__main__":
    cli_test.WATTLE = str(Path(sys.argv.pop(1)).resolve())
    unittest.main(verbosity=2)
