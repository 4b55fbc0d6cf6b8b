#!/usr/bin/env python3
"""PyTorch's training step of the study's Fashion-MNIST cells, as a worker on stdin/stdout.

Protocol (bench/README.md): one request a line, one reply a line; between requests the process sleeps in read().
    -> cell LINEAR CONV RELU batch B steps S        <- ms median M min L steps S layout NAME
    -> quit
One step = zero_grad(set_to_none=True), forward, cross_entropy, backward, Adam(fused=True).step(); fp32, the batch lies
in host memory already. The peer is the faster of the two eager layouts (contiguous, channels_last), chosen per cell
by an interleaved trial, so that it is no strawman. `--compile` times torch.compile's step instead.

By itself:  pytorch_peer.py --table [--batches 512 32] [--compile]   prints all 8 cells.
"""
import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

THREADS = int(os.environ.get("WATTLE_PEER_THREADS", "2"))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))  # before torch, which reads it once

import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "oracle"))
from study_net import CELLS, StudyCnn, data_folder, load_split  # noqa: E402

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
WARM_UP, TRIAL, BATCHES = 3, 7, 4


def training_batches(batch):
    """BATCHES batches of real images; random ones where the data set is not installed."""
    try:
        images, labels = load_split(data_folder(), "t10k")
    except FileNotFoundError:
        generator = torch.Generator().manual_seed(1)
        images = torch.rand(BATCHES * batch, 1, 28, 28, generator=generator)
        labels = torch.randint(0, 10, (BATCHES * batch,), generator=generator)
    return [(images[i * batch:(i + 1) * batch].clone(), labels[i * batch:(i + 1) * batch].clone())
            for i in range(BATCHES)]


class Trainer:
    """One net, its optimiser and its batches in one memory layout."""

    def __init__(self, cell, batch, layout, compiled=False):
        torch.manual_seed(0)
        self.net = StudyCnn(*cell).to(memory_format=LAYOUTS[layout]).train()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3, fused=True)
        self.forward = torch.compile(self.net, dynamic=False) if compiled else self.net
        self.batches = [(x.contiguous(memory_format=LAYOUTS[layout]), y)
                        for x, y in training_batches(batch)]
        self.count = 0

    def step(self):
        x, y = self.batches[self.count % BATCHES]
        self.count += 1
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(self.forward(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def timed(self):
        start = time.perf_counter()
        self.step()
        return 1e3 * (time.perf_counter() - start)


class Peer:
    """Keeps the trainers it was asked for; each key (cell, batch) has settled on its faster layout."""

    def __init__(self, compiled=False, layout=None):
        self.compiled, self.layout, self.trainers = compiled, layout, {}

    def trainer(self, cell, batch):
        key = (cell, batch)
        if key not in self.trainers:
            names = [self.layout] if self.layout else list(LAYOUTS)
            candidates = {n: Trainer(cell, batch, n, self.compiled) for n in names}
            times = {n: [] for n in names}
            for i in range(WARM_UP + TRIAL):
                for n, candidate in candidates.items():
                    ms = candidate.timed()
                    if i >= WARM_UP:
                        times[n].append(ms)
            best = min(names, key=lambda n: statistics.median(times[n]))
            self.trainers[key] = (best, candidates[best])
        return self.trainers[key]

    def measure(self, cell, batch, steps):
        layout, trainer = self.trainer(cell, batch)
        for _ in range(WARM_UP):
            trainer.step()
        times = [trainer.timed() for _ in range(steps)]
        return statistics.median(times), min(times), layout


def about(compiled):
    return {"name": "pytorch", "version": torch.__version__, "threads": torch.get_num_threads(),
            "simd": torch.backends.cpu.get_cpu_capability(),
            "mode": "compile" if compiled else "eager", "optimizer": "Adam(fused=True)"}


def serve(peer):
    print("ready", json.dumps(about(peer.compiled)), flush=True)
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            return
        try:
            if words[0] != "cell" or words[4] != "batch" or words[6] != "steps":
                raise ValueError("expected: cell LINEAR CONV RELU batch B steps S")
            cell = tuple(int(w) for w in words[1:4])
            median, best, layout = peer.measure(cell, int(words[5]), int(words[7]))
            reply = f"ms median {median:.4f} min {best:.4f} steps {words[7]} layout {layout}"
        except (ValueError, IndexError) as error:
            reply = f"error {line.strip()!r}: {error}"
        print(reply, flush=True)


def table(peer, batches, steps):
    print(json.dumps(about(peer.compiled)))
    print(f"{'lin,conv,relu':14} {'batch':>6} {'median ms':>10} {'min ms':>9}  layout")
    for batch in batches:
        for cell in CELLS:
            median, best, layout = peer.measure(cell, batch, steps)
            print(f"{','.join(map(str, cell)):14} {batch:6d} {median:10.3f} {best:9.3f}  {layout}",
                  flush=True)
            peer.trainers.clear()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="time all 8 cells and leave")
    parser.add_argument("--batches", type=int, nargs="+", default=[512, 32])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="torch.compile instead of eager")
    parser.add_argument("--layout", choices=list(LAYOUTS), help="one layout instead of the faster")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    if args.compile:
        torch._dynamo.config.recompile_limit = 64  # one graph per cell and batch size
    peer = Peer(args.compile, args.layout)
    if args.table:
        table(peer, args.batches, args.steps)
    else:
        serve(peer)


if __name__ == "__main__":
    main()
