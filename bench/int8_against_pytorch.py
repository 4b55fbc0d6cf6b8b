#!/usr/bin/env python3
"""int8 matrix products in 32 bits, ours against PyTorch's _int_mm (oneDNN) on the CPU, interleaved as in against_pytorch.py.
PyTorch takes B as rows or as columns, whichever is the faster. Codes are spread over all of -128..127, or as a bell like most weights.
Ratio is theirs / ours of one pair, median and range over the pairs; `wrong` is the share of PyTorch's results that differ from exact ones
(without VNNI its byte products clip: ONEDNN_MAX_CPU_ISA=AVX2 shows it). A peer that is wrong sets no mark.
    int8_against_pytorch.py [--wattle PATH] [--pairs 7] [--steps 15]
Exit code 1 when a median ratio is below 0.8."""
import argparse
import itertools
import json
import os
import statistics
import sys
import time

from against_pytorch import BENCH, SETTLE_S, OrderWorker

SIZES = [(256, 256, 256), (1024, 1024, 1024), (64, 1024, 1024)]
WANTED = 0.8
SPREADS = ("all", "bell")


def codes(shape, spread):
    import torch

    if spread == "all":
        return torch.randint(-128, 128, shape, dtype=torch.int8)
    return (torch.randn(shape) * 30).clamp(-128, 127).to(torch.int8)


def wrong(spread):
    """Share of the results of a product that are not exact."""
    import torch

    a, b = codes((256, 512), spread), codes((512, 256), spread)
    return float((torch._int_mm(a, b) != (a.double() @ b.double())).double().mean())


def serve():
    """PyTorch's side."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    about = {"version": f"PyTorch {torch.__version__}", "threads": torch.get_num_threads(), "wrong": {s: wrong(s) for s in SPREADS}}
    print("ready", json.dumps(about), flush=True)
    for line in sys.stdin:
        if line.strip() == "quit":
            return
        _, m, n, k, spread, _, steps = (int(w) if w.isdigit() else w for w in line.split())
        a, b = codes((m, k), spread), codes((k, n), spread)
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
    print(f"{'M':>5s} {'N':>5s} {'K':>5s} {'codes':>5s} {'ours ms':>9s} {'theirs ms':>10s} {'ratio':>7s}  {'range':12s}  wrong")
    short = 0
    for size, spread in itertools.product(SIZES, SPREADS):
        ms = {ours: [], theirs: []}
        for i in range(-1, o.pairs):
            for w in (ours, theirs)[:: 1 if i % 2 else -1]:
                time.sleep(SETTLE_S)
                t = w.ask(size, spread, o.steps)[0]
                if i >= 0:
                    ms[w].append(t)
        ratios = [b / a for a, b in zip(ms[ours], ms[theirs])]
        r = statistics.median(ratios)
        clipped = theirs.about["wrong"][spread]
        short += r < WANTED and clipped == 0
        print(f"{size[0]:5d} {size[1]:5d} {size[2]:5d} {spread:>5s} {statistics.median(ms[ours]):9.3f} {statistics.median(ms[theirs]):10.3f} "
              f"{r:7.2f}  {min(ratios):.2f} .. {max(ratios):.2f}  {100 * clipped:.3g} %", flush=True)
    for w in (ours, theirs):
        w.close()
    return short > 0


sys.exit(main())
