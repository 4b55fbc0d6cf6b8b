#!/usr/bin/env python3
"""int8 matrix products in 32 bits, ours against PyTorch's _int_mm (oneDNN) on the CPU, interleaved as in against_pytorch.py.
PyTorch takes B as rows or as columns, whichever is the faster. Ratio is theirs / ours of one pair, median and range over the pairs.
    int8_against_pytorch.py [--wattle PATH] [--pairs 7] [--steps 15]
Exit code 1 when a median ratio is below 0.8."""
import argparse
import json
import os
import statistics
import sys
import time

from against_pytorch import BENCH, SETTLE_S, OrderWorker

SIZES = [(256, 256, 256), (1024, 1024, 1024), (64, 1024, 1024)]
WANTED = 0.8


def serve():
    """PyTorch's side."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    about = {"version": f"PyTorch {torch.__version__}", "threads": torch.get_num_threads()}
    print("ready", json.dumps(about), flush=True)
    for line in sys.stdin:
        if line.strip() == "quit":
            return
        m, n, k, steps = (int(w) for w in (*line.split()[1:4], line.split()[5]))
        a = torch.randint(-128, 128, (m, k), dtype=torch.int8)
        b = torch.randint(-128, 128, (k, n), dtype=torch.int8)
        medians = []
        for form in (b, b.t().contiguous().t()):
            ms = []
            for i in range(-2, steps):
                start = time.perf_counter()
                torch._int_mm(a, form)
                if i >= 0:
                    ms.append(1e3 * (time.perf_counter() - start))
            medians.append((statistics.median(ms), min(ms)))
        print("ms median {} min {}".format(*min(medians)), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--wattle", default=str(BENCH.parent / "build" / "release" / "wattle"))
    p.add_argument("--pairs", type=int, default=7)
    p.add_argument("--steps", type=int, default=15)
    p.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.peer:
        return serve()
    ours = OrderWorker("wattle", [o.wattle, "bench", "formats", "--worker"], "int8")
    theirs = OrderWorker("PyTorch", [sys.executable, __file__, "--peer"], "int8")
    print(f"wattle {ours.about['version']} ({ours.about['simd']}, {ours.about['threads']} threads) against {theirs.about['version']} "
          f"({theirs.about['threads']} threads), {o.pairs} pairs of {o.steps} runs")
    print(f"{'M':>5s} {'N':>5s} {'K':>5s} {'ours ms':>9s} {'theirs ms':>10s} {'ratio':>7s}  range")
    short = 0
    for size in SIZES:
        ms = {ours: [], theirs: []}
        for i in range(-1, o.pairs):
            for w in (ours, theirs)[:: 1 if i % 2 else -1]:
                time.sleep(SETTLE_S)
                t = w.ask(size, o.steps)[0]
                if i >= 0:
                    ms[w].append(t)
        ratios = [b / a for a, b in zip(ms[ours], ms[theirs])]
        r = statistics.median(ratios)
        short += r < WANTED
        print(f"{size[0]:5d} {size[1]:5d} {size[2]:5d} {statistics.median(ms[ours]):9.3f} {statistics.median(ms[theirs]):10.3f} {r:7.2f}  "
              f"{min(ratios):.2f} .. {max(ratios):.2f}", flush=True)
    for w in (ours, theirs):
        w.close()
    return short > 0


sys.exit(main())
