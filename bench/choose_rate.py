#!/usr/bin/env python3
"""Chooses the learning rate of the study's fixed protocol without looking at the test set.

The last 10,000 training images of Fashion-MNIST become a validation split (they are in random order in the file); every
rate and schedule trains on the other 50,000 for the protocol's 3 epochs with seeds that the study does not use, and the
accuracy on the split decides. Prints one row per choice, best last.
    choose_rate.py [--wattle PATH] [--rates 1e-3,2e-3,3e-3,5e-3] [--schedules constant,cosine] [--seeds 100,101,102]
                   [--nets 3,1,1;3,4,1] [--data-dir DIR]
"""
import argparse
import gzip
import json
import statistics
import struct
import subprocess
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
VALIDATION = 10000


def read_idx(path):
    """-> (shape, bytes of all rows)"""
    raw = gzip.open(path, "rb").read() if path.suffix == ".gz" else path.read_bytes()
    rank = raw[3]
    return struct.unpack(f">{rank}I", raw[4:4 + 4 * rank]), raw[4 + 4 * rank:]


def write_idx(path, shape, body):
    path.write_bytes(struct.pack(">BBBB", 0, 0, 8, len(shape)) + struct.pack(f">{len(shape)}I", *shape) + body)


def split(source, target):
    """Training images [0, n - VALIDATION) as train, the rest as t10k."""
    for kind in ("images-idx3", "labels-idx1"):
        shape, body = read_idx(sorted(source.glob(f"train-{kind}-ubyte*"))[0])
        row, keep = len(body) // shape[0], shape[0] - VALIDATION
        write_idx(target / f"train-{kind}-ubyte", (keep, *shape[1:]), body[:keep * row])
        write_idx(target / f"t10k-{kind}-ubyte", (VALIDATION, *shape[1:]), body[keep * row:])


def accuracy(wattle, folder, net, rate, schedule, seed):
    linear, conv, relu = net.split(",")
    command = [wattle, "train", "--linear", linear, "--conv", conv, "--relu", relu, "--data-dir", str(folder), "--epochs", "3",
               "--lr", rate, "--schedule", schedule, "--seed", seed, "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\nexit {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)["accuracy"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wattle", default=str(REPO / "wattle"))
    parser.add_argument("--data-dir", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--rates", default="1e-3,2e-3,3e-3,5e-3")
    parser.add_argument("--schedules", default="constant,cosine")
    parser.add_argument("--seeds", default="100,101,102")
    parser.add_argument("--nets", default="3,1,1;3,4,1")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="wattle-rate-") as folder:
        split(Path(args.data_dir), Path(folder))
        for schedule in args.schedules.split(","):
            for rate in args.rates.split(","):
                found = [statistics.mean(accuracy(args.wattle, folder, net, rate, schedule, seed)
                                         for seed in args.seeds.split(",")) for net in args.nets.split(";")]
                rows.append((statistics.mean(found), schedule, rate, found))
                print(f"{schedule:9} {rate:6} {'  '.join(f'{a:.4f}' for a in found)}  mean {rows[-1][0]:.4f}", flush=True)
    best = max(rows)
    print(f"best on the validation split: {best[1]} {best[2]}, mean {best[0]:.4f}")


if __name__ == "__main__":
    main()
