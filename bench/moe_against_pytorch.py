#!/usr/bin/env python3
"""A routed layer of ours and PyTorch's loop over experts, interleaved as in against_pytorch.py: 16 m experts of hidden size
4 d / m, 2 m of them active, ReLU, softmax. Ratio is ours / PyTorch of one pair, median and range over the pairs.
    moe_against_pytorch.py [--wattle PATH] [--pairs 5] [--steps 7]
Exit code 1 when a median ratio is above 1."""
import argparse
import statistics
import sys

from against_pytorch import BENCH, OrderWorker, measured

POINTS = [(t, d, m) for t, d, m in ((1, 256, 4), (16, 256, 4), (64, 256, 4), (256, 256, 4), (1024, 256, 1), (1024, 256, 4), (1024, 128, 4),
                                    (4096, 256, 4))]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--wattle", default=str(BENCH.parent / "build" / "release" / "wattle"))
    p.add_argument("--pairs", type=int, default=5)
    p.add_argument("--steps", type=int, default=7)
    o = p.parse_args()
    ours = OrderWorker("wattle", [o.wattle, "bench", "moe", "--worker"], "layer")
    theirs = OrderWorker("pytorch", [sys.executable, BENCH / "moe_pytorch_peer.py"], "layer")
    print(f"wattle {ours.about['version']} ({ours.about['simd']}, {ours.about['threads']} threads) against PyTorch {theirs.about['version']} "
          f"({theirs.about['threads']} threads), {o.pairs} pairs of {o.steps} steps")
    print(f"{'tokens':>6s} {'d':>4s} {'m':>2s} {'pass':8s} {'ours ms':>9s} {'PyTorch ms':>11s} {'ratio':>7s}  range")
    worse = 0
    for mode in ("forward", "both"):
        for cell in POINTS:
            ratios, a, b = [], [], []
            for i in range(-1, o.pairs):
                sides = [(ours, theirs), (theirs, ours)][i % 2]
                ms = {w.name: measured(w, other, cell, mode, o.steps)[0] for w, other in (sides, sides[::-1])}
                if i >= 0:
                    a.append(ms["wattle"])
                    b.append(ms["pytorch"])
                    ratios.append(a[-1] / b[-1])
            r = statistics.median(ratios)
            worse += r > 1
            print(f"{cell[0]:6d} {cell[1]:4d} {cell[2]:2d} {mode:8s} {statistics.median(a):9.3f} {statistics.median(b):11.3f} {r:7.3f}  "
                  f"{min(ratios):.3f} .. {max(ratios):.3f}", flush=True)
    for w in (ours, theirs):
        w.close()
    sys.exit(worse > 0)


main()
