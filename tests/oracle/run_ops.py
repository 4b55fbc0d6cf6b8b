#!/usr/bin/env python3
"""Every op against PyTorch: 20 random shapes each, forward and gradients, through `./wattle op`.

A case passes when every float output, gradient and tensor written in place has ||ours - PyTorch|| <= 1e-5 ||PyTorch||,
integers and bools are equal, and shapes and dtypes agree. dropout is held to what any generator must satisfy.
    run_ops.py [OP ...] [--wattle PATH] [--all-kernels] [--json [FILE]] [--keep DIR]
Exit code 1 on any failure; the last line is "N passed, N failed".
"""
import argparse
import json
import os
import shlex
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from cli import REPO, Wattle, prepare  # noqa: E402
from ops_cases import CASES_PER_OP, OPS, draw, own_error, relative_error  # noqa: E402

TOLERANCE = 1e-5
REFUSALS = ("refuse", "not accept", "does not support", "rejected")


@dataclass
class Row:
    """One line of the table: an op under one kernel."""

    op: str
    kernel: str
    cases: int = 0
    passed: int = 0
    refused: int = 0
    forward: float = 0.0
    gradient: float = 0.0
    failures: list = field(default_factory=list)


def norm(array):
    return float(np.linalg.norm(array)) if array is not None else 1.0


def compare(job, name, expected, f64, scale, problems):
    """Error of one file against PyTorch; appends what is wrong with it to `problems`."""
    got = job.read(name)
    if got is None:
        problems.append(f"{name}.npy was not written")
        return float("inf")
    if got.shape != expected.shape or got.dtype != expected.dtype:
        problems.append(f"{name} is {got.dtype}{list(got.shape)}, PyTorch's {expected.dtype}{list(expected.shape)}")
        return float("inf")
    error = relative_error(got, expected, scale)
    if error > TOLERANCE:
        problems.append(f"{name} error {error:.2e} (against f64: ours {relative_error(got, f64, scale):.1e}, "
                        f"PyTorch's {relative_error(expected, f64, scale):.1e})")
    return error


def check_values(job):
    """-> (worst forward error, worst gradient error, problems)."""
    case, problems = job.case, []
    forward = [compare(job, f"out{i}", a, b, 1.0, problems) for i, (a, b) in
               enumerate(zip(case.outs, case.outs64))]
    forward += [compare(job, f"in{i}", case.written[i], case.written64[i], 1.0, problems) for i in case.written]
    gradient = [compare(job, f"grad{i}", a, b, norm(case.gy), problems)
                for i, (a, b) in enumerate(zip(case.grads, case.grads64)) if a is not None]
    return max(forward, default=0.0), max(gradient, default=0.0), problems


def check_topk_unsorted(job):
    """Any order will do: the values as a set, and indices that point at them."""
    values, indices = job.read("out0"), job.read("out1")
    if values is None or indices is None or values.shape != job.case.outs[0].shape:
        return float("inf"), 0.0, ["out0 or out1 missing or of another shape"]
    dim = int(job.case.spec.attrs.get("dim", -1))
    same = np.array_equal(np.sort(values, dim), np.sort(job.case.outs[0], dim))
    points = np.array_equal(np.take_along_axis(job.case.spec.ins[0], indices, dim), values)
    return (0.0, 0.0, []) if same and points else (float("inf"), 0.0, [f"values {same}, indices {points}"])


def check_dropout(job, variants):
    """y is 0 or x / (1 - p), the share of zeros is p, the gradient has the same mask, the seed decides the mask."""
    x, y, p = job.case.spec.ins[0], job.read("out0"), float(job.case.spec.attrs["p"])
    dx = job.read("grad0")
    if y is None or dx is None or y.shape != x.shape or dx.shape != x.shape:
        return float("inf"), float("inf"), ["out0 or grad0 missing or of another shape"]
    kept, problems = y != 0, []
    forward = relative_error(y, np.where(kept, x / np.float32(1 - p), 0))
    gradient = relative_error(dx, np.where(kept, job.case.gy / np.float32(1 - p), 0), norm(job.case.gy))
    if max(forward, gradient) > TOLERANCE:
        problems.append(f"scale or mask: forward {forward:.1e}, gradient {gradient:.1e}")
    dropped, n = int((~kept).sum()), kept.size
    if abs(dropped - n * p) > 5 * np.sqrt(n * p * (1 - p)) + 1:
        problems.append(f"{dropped} of {n} dropped, p = {p}")
    for name, other in variants.items():
        got = other.read("out0")
        same = got is not None and np.array_equal(got, y)
        if got is None or (name == "again" and not same) or (name != "again" and same and n >= 64):
            problems.append(f"{name}: {'no answer' if got is None else 'same' if same else 'other'} mask")
    return forward, gradient, problems


VARIANTS = {"again": {}, "seed": {"seed": 4711}, "offset": {"offset": 1 << 20}}


def run_row(wattle, op, kernel, cases, work):
    """All cases of one op under one kernel; kernel None = what dispatch chooses."""
    row = Row(op, kernel or "(dispatch)")
    base = work / op / (kernel or "dispatch").replace("/", "_")
    jobs = [prepare(case, base / str(case.index), kernel) for case in cases]
    variants = {case.index: {name: prepare(case, base / f"{case.index}_{name}", kernel, attrs)
                             for name, attrs in VARIANTS.items()}
                for case in cases if case.spec.check == "dropout"}
    wattle.run(jobs + [job for group in variants.values() for job in group.values()])
    for job in jobs:
        row.cases += 1
        if job.error:
            if kernel and any(word in job.error for word in REFUSALS):
                row.refused += 1
                continue
            forward, gradient, problems = 0.0, 0.0, [job.error]
        elif job.case.spec.check == "dropout":
            forward, gradient, problems = check_dropout(job, variants[job.case.index])
        elif job.case.spec.check == "topk_unsorted":
            forward, gradient, problems = check_topk_unsorted(job)
        else:
            forward, gradient, problems = check_values(job)
        row.forward, row.gradient = max(row.forward, forward), max(row.gradient, gradient)
        row.passed += not problems
        if problems:
            row.failures.append({"case": job.case.name, "problems": problems, "torch_error": own_error(job.case)
                                 if job.case.spec.check == "values" else None,
                                 "command": shlex.join(wattle.command + wattle.arguments(job))})
    return row


def rows_of(wattle, op, all_kernels, work):
    cases = [draw(op, i) for i in range(CASES_PER_OP)]
    rows = [run_row(wattle, op, None, cases, work)]
    for kernel, accepted in wattle.kernels(op) if all_kernels else []:
        if not accepted:
            continue
        row = run_row(wattle, op, kernel, cases, work)
        if row.refused == row.cases:
            row.failures.append({"case": op, "problems": [f"kernel {kernel} refuses all cases"], "command": ""})
        rows.append(row)
    return rows


def print_row(row, shown=3):
    print(f"{row.op:14} {row.kernel:18} {row.passed:4d}/{row.cases:<4d} {row.refused:7d}  "
          f"{row.forward:9.1e} {row.gradient:9.1e}{'   FAILED' if row.failures else ''}", flush=True)
    for failure in row.failures[:shown]:
        print(f"    {failure['case']}: {'; '.join(failure['problems'])}\n      {failure['command']}")
    if len(row.failures) > shown:
        print(f"    ... and {len(row.failures) - shown} more")


def report(rows, target):
    document = {"torch": torch.__version__, "tolerance": TOLERANCE,
                "passed": sum(r.passed for r in rows), "failed": sum(len(r.failures) for r in rows),
                "refused": sum(r.refused for r in rows), "rows": [vars(r) for r in rows]}
    text = json.dumps(document, indent=1, default=str).replace("Infinity", "null")
    if target == "-":
        print(text)
    elif target:
        Path(target).write_text(text + "\n")
    return document


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ops", nargs="*", help="only these (default: all)")
    parser.add_argument("--wattle", default=str(REPO / "wattle"))
    parser.add_argument("--all-kernels", action="store_true", help="each accepted kernel by name as well")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="to FILE, or instead of the table")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the .npy files here")
    args = parser.parse_args()
    unknown = [op for op in args.ops if op not in OPS]
    if unknown:
        parser.error(f"no cases for {', '.join(unknown)}; there are: {' '.join(OPS)}")
    torch.set_num_threads(2)
    table, rows = args.json != "-", []
    if table:
        print(f"PyTorch {torch.__version__}, {CASES_PER_OP} cases per op, tolerance {TOLERANCE}\n"
              f"{'op':14} {'kernel':18} {'passed':>9} {'refused':>7}  {'forward':>9} {'gradient':>9}")
    with tempfile.TemporaryDirectory(prefix="wattle-oracle-") as scratch:
        work = (args.keep or Path(scratch)).resolve()
        for op in args.ops or OPS:
            for row in rows_of(Wattle(args.wattle), op, args.all_kernels, work):
                rows.append(row)
                if table:
                    print_row(row)
    document = report(rows, args.json)
    print(f"{document['passed']} passed, {document['failed']} failed", file=sys.stdout if table else sys.stderr)
    return 1 if document["failed"] or not document["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
