#!/usr/bin/env python3
"""The peers' side of snn_against_peers.py: forward and backward of one layer of neurons over all steps, in SpikingJelly (its multi-step
mode on the torch backend, and its single-step mode in a loop, of which the faster counts) and in snnTorch (a loop over steps); and the
dense products that ours by events are compared with, in PyTorch."""
import json
import os
import statistics
import sys
import time
import warnings
from importlib.metadata import version

import torch

warnings.filterwarnings("ignore")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))


def spikingjelly(multi):
    from spikingjelly.activation_based import functional, neuron

    node = neuron.LIFNode(tau=2.0, step_mode="m" if multi else "s")

    def run(x):
        functional.reset_net(node)
        return node(x) if multi else torch.stack([node(x[t]) for t in range(len(x))])

    return run


def snntorch():
    import snntorch as snn

    node = snn.Leaky(beta=0.5)

    def run(x):
        mem, spikes = torch.zeros_like(x[0]), []
        for t in range(len(x)):
            s, mem = node(x[t], mem)
            spikes.append(s)
        return torch.stack(spikes)

    return run


def timed(run, steps):
    ms = []
    for i in range(-2, steps):
        start = time.perf_counter()
        run()
        if i >= 0:
            ms.append(1e3 * (time.perf_counter() - start))
    return statistics.median(ms), min(ms)


def trained(form, x):
    def run():
        x.grad = None
        form(x).sum().backward()

    return run


def dense(kind, rows, n):
    if kind == "linear":
        x, w = torch.randn(rows, n), torch.randn(n, n)
        return lambda: torch.nn.functional.linear(x, w)
    x, w = torch.randn(rows, 128, n, n), torch.randn(128, 128, 3, 3)
    return lambda: torch.nn.functional.conv2d(x, w, padding=1)


def main():
    forms = {"lif": [spikingjelly(True), spikingjelly(False)], "leaky": [snntorch()]}
    versions = ", ".join(f"{p} {version(p)}" for p in ("spikingjelly", "snntorch", "torch"))
    about = {"name": "peers", "version": versions,
             "threads": torch.get_num_threads()}
    print("ready", json.dumps(about), flush=True)
    torch.manual_seed(1)
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            break
        _, kind, t, n, _, steps = words
        if kind in ("linear", "conv"):
            with torch.no_grad():
                best = timed(dense(kind, int(t), int(n)), int(steps))
        else:
            x = (torch.rand(int(t), int(n)) * 4 - 1).requires_grad_()
            best = min(timed(trained(f, x), int(steps)) for f in forms[kind])
        print(f"ms median {best[0]:.6f} min {best[1]:.6f}", flush=True)


main()
