#!/usr/bin/env python3
"""Training steps of wattle and PyTorch, interleaved in one run: A B, B A, A B ...

Both sides are workers that sleep in read() until asked (protocol: bench/README.md). For each cell and batch size: one
unrecorded request each, then `--pairs` pairs; the ratio is ours / PyTorch of the medians of one pair, shown as median and
min..max over the pairs. The CPU time of the sleeping side is read from /proc: a pair with more than 2 % is reported.
    against_pytorch.py [--wattle PATH] [--batches 512] [--pairs 7] [--steps 20] [--compile] [--json]
Exit code 1 when a median ratio is above 1.
"""
import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent
CELLS = [(lin, conv, relu) for lin in (3, 7) for conv in (1, 4) for relu in (0, 1)]
SETTLE_S = 0.05  # idle OpenMP threads stop spinning well within this
IDLE_LIMIT = 0.02


class Worker:
    """One side: a child process that answers `cell ...` lines."""

    def __init__(self, name, command, environment=None):
        self.name = name
        try:
            self.child = subprocess.Popen([str(c) for c in command], text=True, bufsize=1, cwd=BENCH.parent,
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                          env={**os.environ, **(environment or {})})
        except OSError as error:
            raise SystemExit(f"{name}: {error}") from error
        greeting = self.read()
        if not greeting.startswith("ready"):
            raise SystemExit(f"{name}: expected a line 'ready {{...}}', got {greeting!r}")
        self.about = json.loads(greeting[len("ready"):] or "{}")

    def read(self):
        line = self.child.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: left with exit code {self.child.wait()}")
        return line.strip()

    def cpu_seconds(self):
        """User + system time of the process so far, its threads included."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, cell, batch, steps):
        """-> median ms, min ms of one step."""
        self.child.stdin.write(f"cell {' '.join(map(str, cell))} batch {batch} steps {steps}\n")
        self.child.stdin.flush()
        reply = self.read()
        found = re.fullmatch(r"ms median ([\d.eE+-]+) min ([\d.eE+-]+)( .*)?", reply)
        if not found:
            raise SystemExit(f"{self.name}: {reply!r}, expected 'ms median M min L ...'")
        return float(found[1]), float(found[2])

    def close(self):
        self.child.stdin.write("quit\n")
        self.child.stdin.close()
        self.child.wait(timeout=30)


class OrderWorker(Worker):
    """A side that answers other orders: `WORD NUMBERS... steps S` with milliseconds."""

    def __init__(self, name, command, word):
        super().__init__(name, command)
        self.word = word

    def ask(self, cell, *more):
        """-> median ms, min ms; `more` is words of the cell and the steps at the end."""
        *words, steps = more
        self.child.stdin.write(f"{self.word} {' '.join(map(str, [*cell, *words]))} steps {steps}\n")
        self.child.stdin.flush()
        answer = self.read().split()
        if answer[0] != "ms":
            raise SystemExit(f"{self.name}: {' '.join(answer)}")
        return float(answer[2]), float(answer[4])


def measured(worker, other, cell, batch, steps):
    """One request while the other side sleeps -> (median, min, share of a CPU the other side took)."""
    time.sleep(SETTLE_S)
    cpu, start = other.cpu_seconds(), time.perf_counter()
    median, best = worker.ask(cell, batch, steps)
    return median, best, (other.cpu_seconds() - cpu) / (time.perf_counter() - start)


def compare(ours, theirs, cell, batch, args):
    for worker, other in ((ours, theirs), (theirs, ours)):
        measured(worker, other, cell, batch, args.steps)
    samples = {ours.name: [], theirs.name: []}
    for pair in range(args.pairs):
        order = (ours, theirs) if pair % 2 == 0 else (theirs, ours)
        for worker, other in (order, order[::-1]):
            samples[worker.name].append(measured(worker, other, cell, batch, args.steps))
    ratios = [a[0] / b[0] for a, b in zip(samples[ours.name], samples[theirs.name])]

    def summary(name):
        return {"median_ms": statistics.median(s[0] for s in samples[name]), "min_ms": min(s[1] for s in samples[name])}

    return {"cell": list(cell), "batch": batch, "ours": summary(ours.name), "torch": summary(theirs.name),
            "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios),
            "sleeper_cpu": max(s[2] for side in samples.values() for s in side)}


def cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def print_row(row):
    note = f"  sleeping side busy {100 * row['sleeper_cpu']:.0f} %" if row["sleeper_cpu"] > IDLE_LIMIT else ""
    print(f"{','.join(map(str, row['cell'])):13} {row['batch']:5d} {row['ours']['median_ms']:9.3f} "
          f"{row['ours']['min_ms']:9.3f} {row['torch']['median_ms']:9.3f} {row['torch']['min_ms']:9.3f} "
          f"{row['ratio']:7.3f}  {row['ratio_min']:.3f}..{row['ratio_max']:.3f}{note}", flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wattle", default=str(BENCH.parent / "wattle"))
    parser.add_argument("--python", default=sys.executable, help="interpreter with torch")
    parser.add_argument("--batches", type=int, nargs="+", default=[512])
    parser.add_argument("--cells", nargs="+", metavar="L,C,R", help="e.g. 3,1,1 7,4,0 (default: all 8)")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="PyTorch through torch.compile")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.cells = [tuple(map(int, c.split(","))) for c in args.cells] if args.cells else CELLS
    return args


def main():
    args = parse()
    lin, conv, relu = args.cells[0]
    threads = str(args.threads)
    ours = Worker("wattle", [args.wattle, "bench", "step", "--linear", lin, "--conv", conv, "--relu", relu, "--batch",
                             args.batches[0], "--steps", args.steps, "--threads", threads, "--worker"],
                  {"OMP_NUM_THREADS": threads})
    theirs = Worker("pytorch", [args.python, BENCH / "pytorch_peer.py"] + (["--compile"] if args.compile else []),
                    {"OMP_NUM_THREADS": threads, "WATTLE_PEER_THREADS": threads})
    head = {"cpu": cpu_model(), "cores": os.cpu_count(), "threads": args.threads, "pairs": args.pairs,
            "steps": args.steps, "load_before": os.getloadavg()[0], "ours": ours.about, "torch": theirs.about}
    if not args.json:
        print(json.dumps(head, indent=1))
        print(f"{'lin,conv,relu':13} {'batch':>5} {'ours ms':>9} {'min':>9} {'torch ms':>9} {'min':>9} {'ratio':>7}  range")
    rows = []
    for batch in args.batches:
        for cell in args.cells:
            rows.append(compare(ours, theirs, cell, batch, args))
            if not args.json:
                print_row(rows[-1])
    ours.close()
    theirs.close()
    slower = [r for r in rows if r["ratio"] > 1]
    if args.json:
        print(json.dumps({**head, "rows": rows, "slower": len(slower)}))
    else:
        print(f"{len(rows) - len(slower)} at least as fast as PyTorch, {len(slower)} slower")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
