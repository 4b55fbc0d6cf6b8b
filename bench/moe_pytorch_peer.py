#!/usr/bin/env python3
"""PyTorch's side of moe_against_pytorch.py: a routed layer of two-matrix ReLU experts, eager, the usual loop over experts in
two forms - index_add of each expert's rows, and rows sorted by expert, split, and added once - of which the faster counts."""
import json
import os
import statistics
import sys
import time

import torch

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))


class Layer:
    def __init__(self, d, m):
        n, h = 16 * m, 4 * d // m
        self.k = 2 * m
        self.gate = (0.05 * torch.randn(n, d)).requires_grad_()
        self.up = [(0.05 * torch.randn(d, h)).requires_grad_() for _ in range(n)]
        self.down = [(0.05 * torch.randn(h, d)).requires_grad_() for _ in range(n)]

    def route(self, x):
        return (x @ self.gate.T).softmax(-1).topk(self.k, dim=-1)

    def by_index_add(self, x):
        weight, expert = self.route(x)
        y = torch.zeros_like(x)
        for e, (up, down) in enumerate(zip(self.up, self.down)):
            t, k = torch.where(expert == e)
            if len(t):
                y = y.index_add(0, t, (x[t] @ up).relu() @ down * weight[t, k, None])
        return y

    def by_sorting(self, x):
        weight, expert = self.route(x)
        order = expert.flatten().argsort(stable=True)
        token = order // self.k
        counts = torch.bincount(expert.flatten(), minlength=len(self.up)).tolist()
        rows = [(r @ up).relu() @ down for r, up, down in zip(x[token].split(counts), self.up, self.down)]
        return torch.zeros_like(x).index_add(0, token, torch.cat(rows) * weight.flatten()[order, None])


def timed(layer, form, x, mode, steps):
    ms = []
    for i in range(-2, steps):
        start = time.perf_counter()
        if mode == "forward":
            with torch.no_grad():
                form(layer, x)
        else:
            x.grad = None
            for p in [layer.gate, *layer.up, *layer.down]:
                p.grad = None
            form(layer, x).sum().backward()
        if i >= 0:
            ms.append(1e3 * (time.perf_counter() - start))
    return statistics.median(ms), min(ms)


def main():
    about = {"name": "pytorch", "version": torch.__version__, "threads": torch.get_num_threads()}
    print("ready", json.dumps(about), flush=True)
    torch.manual_seed(1)
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            break
        _, tokens, d, m, mode, _, steps = words
        layer, x = Layer(int(d), int(m)), torch.randn(int(tokens), int(d)).requires_grad_(mode == "both")
        best = min((timed(layer, f, x, mode, int(steps)), f.__name__) for f in (Layer.by_index_add, Layer.by_sorting))
        print(f"ms median {best[0][0]:.6f} min {best[0][1]:.6f} {best[1]}", flush=True)


main()
