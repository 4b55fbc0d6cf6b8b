#!/usr/bin/env python3
"""What counting costs: training steps of this build and of one with counting compiled out, interleaved.

    cmake --preset uncounted && cmake --build --preset uncounted --target wattle_cli
    counting_cost.py [--with build/release/wattle] [--without build/uncounted/wattle] [--pairs 9] [--steps 20]
Prints with / without per batch size: the median over the pairs, and min..max. Limits: 1.02 at batch 512, 1.05 at 32.
"""
import argparse
import os
from pathlib import Path

from against_pytorch import Worker, compare

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {512: 1.02, 32: 1.05}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--with", dest="counted", default=ROOT / "build/release/wattle")
    parser.add_argument("--without", default=ROOT / "build/uncounted/wattle")
    parser.add_argument("--cell", default="3,4,1", help="linear,conv,relu: the cell with most ops by default")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    environment = {"OMP_NUM_THREADS": str(args.threads)}
    sides = [Worker(name, [binary, "bench", "step", "--worker"], environment)
             for name, binary in (("counted", args.counted), ("uncounted", args.without))]
    print(f"load {os.getloadavg()[0]:.1f}, {args.threads} threads, {sides[0].about['simd']}, cell {args.cell}")
    cell = tuple(int(n) for n in args.cell.split(","))
    failed = False
    for batch, limit in LIMITS.items():
        row = compare(*sides, cell, batch, args)
        failed |= row["ratio"] > limit
        print(f"batch {batch}: {row['ours']['median_ms']:.3f} ms counted, {row['torch']['median_ms']:.3f} ms not, "
              f"ratio {row['ratio']:.4f} ({row['ratio_min']:.4f}..{row['ratio_max']:.4f}), limit {limit}", flush=True)
    for side in sides:
        side.close()
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
