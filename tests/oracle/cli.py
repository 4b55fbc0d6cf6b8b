"""Runs ops through `./wattle op`: writes the .npy inputs, one batch file per call, reads the answers."""
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from case_core import attr_text

REPO = Path(__file__).resolve().parents[2]


@dataclass
class Job:
    """One call of one op: a case, the kernel forced (or None), and where its files lie."""

    case: object
    kernel: str | None
    folder: Path
    attrs: dict
    error: str = ""

    @property
    def out(self):
        return self.folder / "out"

    def answered(self):
        return self.out.is_dir() and any(self.out.glob("*.npy"))

    def read(self, name):
        path = self.out / f"{name}.npy"
        return np.load(path, allow_pickle=False) if path.exists() else None


def prepare(case, folder, kernel=None, attrs=None):
    """Writes inputs (a missing one is `-`, missing last ones are left out) and the upstream gradient."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(case.spec.ins):
        if array is not None:
            np.save(folder / f"in{i}.npy", array)
    if case.gy is not None:
        np.save(folder / "gy.npy", case.gy)
    text = {k: attr_text(v) for k, v in {**case.spec.attrs, **(attrs or {})}.items()}
    return Job(case, kernel, folder, text)


def input_paths(job):
    paths = ["-" if a is None else str(job.folder / f"in{i}.npy") for i, a in enumerate(job.case.spec.ins)]
    while paths and paths[-1] == "-":
        paths.pop()
    return paths


def gradient_path(job):
    return str(job.folder / "gy.npy") if job.case.gy is not None else None


class Wattle:
    """The CLI under test. Batch first; what a batch left unanswered is asked once more by itself."""

    def __init__(self, command, timeout=300):
        self.command, self.timeout = [str(command)], timeout

    def call(self, arguments):
        try:
            return subprocess.run(self.command + arguments, capture_output=True, text=True,
                                  timeout=self.timeout, cwd=REPO, errors="replace")
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(arguments, 124, "", f"no answer in {self.timeout} s")
        except OSError as error:
            return subprocess.CompletedProcess(arguments, 127, "", str(error))

    def kernels(self, op):
        """[(name, accepted)] from `ops NAME --json`; empty when the op is not there."""
        done = self.call(["ops", op, "--json"])
        try:
            found = json.loads(done.stdout)
        except json.JSONDecodeError:
            return []
        entry = found[0] if isinstance(found, list) and found else found
        return [(k["name"], bool(k["accepted"])) for k in (entry or {}).get("kernels", [])]

    def run(self, jobs):
        """Fills job.out and job.error; a job without an answer has its message in job.error."""
        if not jobs:
            return
        for job in jobs:
            shutil.rmtree(job.out, ignore_errors=True)
            job.out.mkdir(parents=True)
        lines = [json.dumps({"op": j.case.op, "in": input_paths(j), "attr": j.attrs, "grad": gradient_path(j),
                             "kernel": j.kernel, "out": str(j.out)}) for j in jobs]
        batch = jobs[0].folder.parent / "batch.jsonl"
        batch.write_text("\n".join(lines) + "\n")
        self.call(["op", "--batch", str(batch)])
        for job in jobs:
            if not job.answered():
                self.single(job)

    def single(self, job):
        done = self.call(self.arguments(job))
        if done.returncode != 0 or not job.answered():
            lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
            job.error = f"exit {done.returncode}: {lines[-1][:300]}"

    def arguments(self, job):
        """The command line of one job, as a user would type it."""
        arguments = ["op", job.case.op, "--in", *input_paths(job)]
        for key, value in job.attrs.items():
            arguments += ["--attr", f"{key}={value}"]
        if gradient_path(job):
            arguments += ["--grad", gradient_path(job)]
        if job.kernel:
            arguments += ["--kernel", job.kernel]
        return arguments + ["--out", str(job.out)]
