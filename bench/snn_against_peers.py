#!/usr/bin/env python3
"""Neurons of ours against SpikingJelly (lif) and snnTorch (leaky) on the CPU, forward and backward over all steps, interleaved as in
against_pytorch.py. Ratio is ours / theirs of one pair, median and range over the pairs. Below, the dense forward products that those by
events are measured against (`wattle bench snn`), which may take twice PyTorch's time at most.
    snn_against_peers.py [--wattle PATH] [--pairs 5] [--steps 7]
Exit code 1 when a median ratio is above its limit, 1 or 2."""
import argparse
import statistics
import sys

from against_pytorch import BENCH, OrderWorker

POINTS = [(kind, t, n) for kind in ("lif", "leaky") for t, n in ((4, 1 << 12), (8, 1 << 16), (32, 1 << 16))]
DENSE = [("linear", 1, 1024), ("conv", 1, 14)]  # T is the number of rows or images, N of inputs or the side


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--wattle", default=str(BENCH.parent / "build" / "release" / "wattle"))
    p.add_argument("--pairs", type=int, default=5)
    p.add_argument("--steps", type=int, default=7)
    o = p.parse_args()
    ours = OrderWorker("wattle", [o.wattle, "bench", "snn", "--worker"], "neuron")
    theirs = OrderWorker("peers", [sys.executable, BENCH / "snn_peers.py"], "neuron")
    print(f"wattle {ours.about['version']} ({ours.about['simd']}, {ours.about['threads']} threads) against {theirs.about['version']} "
          f"({theirs.about['threads']} threads), {o.pairs} pairs of {o.steps} runs")
    print(f"{'neuron':7s} {'T':>3s} {'N':>6s} {'ours ms':>9s} {'theirs ms':>10s} {'ratio':>7s}  range")
    worse = 0
    for cell in POINTS + DENSE:
        a, b = [], []
        for i in range(-1, o.pairs):
            for w in (ours, theirs)[:: 1 if i % 2 else -1]:
                ms = w.ask(cell, o.steps * (50 if cell in DENSE else 1))[0]
                if i >= 0:
                    (a if w is ours else b).append(ms)
        ratios = [x / y for x, y in zip(a, b)]
        r = statistics.median(ratios)
        worse += r > (2 if cell in DENSE else 1)
        print(f"{cell[0]:7s} {cell[1]:3d} {cell[2]:6d} {statistics.median(a):9.3f} {statistics.median(b):10.3f} {r:7.3f}  "
              f"{min(ratios):.3f} .. {max(ratios):.3f}", flush=True)
    for w in (ours, theirs):
        w.close()
    sys.exit(worse > 0)


main()
