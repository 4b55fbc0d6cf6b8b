#!/usr/bin/env python3
"""A routed layer against PyTorch: a loop over experts with index_add, the same weights, 20 random layers; outputs and all
gradients within 1e-5 of the largest. Routing must agree wherever scores are not within 1e-5 of each other."""
import json
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WATTLE = os.environ.get("WATTLE_BINARY", os.path.join(ROOT, "build", "release", "wattle"))
TOLERANCE = 1e-5


def read_safetensors(path):
    data = open(path, "rb").read()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n])
    header.pop("__metadata__", None)
    out = {}
    for name, t in header.items():
        a, b = t["data_offsets"]
        assert t["dtype"] == "F32", t
        out[name] = torch.from_numpy(np.frombuffer(data[8 + n + a : 8 + n + b], np.float32).reshape(t["shape"]).copy())
    return out


def random_config(r, i):
    m, n = r.choice([1, 2, 4]), r.choice([1, 2, 4, 8, 16])
    k = r.randint(1, min(n, 3))
    shared = r.randint(0, m * k - 1)
    routed, active = m * n - shared, m * k - shared
    groups = r.choice([g for g in (1, 2, 4) if routed % g == 0])
    keep = r.choice([t for t in range(1, groups + 1) if routed // groups * t >= active])
    c = {"d_model": r.choice([8, 24, 64]), "d_ff": m * r.choice([8, 24, 64]), "experts": n, "top_k": k, "segments": m, "shared": shared,
         "activation": r.choice(["relu", "gelu", "swiglu"]), "score": r.choice(["softmax", "sigmoid"]), "norm_topk": r.random() < 0.5 and active > 1,  # one normalised weight is 1: its gradient is rounding alone
         "route_scale": r.choice([1.0, 2.5]), "groups": groups, "topk_groups": keep, "aux_alpha": r.choice([0.0, 0.01]),
         "z_loss": r.choice([0.0, 0.001])}
    tokens = [0, 1, 2, 4096][i] if i < 4 else r.randint(3, 600)
    return c, tokens


def chosen_by_torch(s, c, active):
    if c["groups"] > 1:
        grouped = s.view(s.shape[0], c["groups"], s.shape[1] // c["groups"])
        best = grouped.amax(-1).topk(c["topk_groups"], dim=-1)[1]
        mask = torch.zeros(s.shape[0], c["groups"], dtype=torch.bool).scatter_(1, best, True)
        s = grouped.masked_fill(~mask[:, :, None], float("-inf")).reshape(s.shape)
    values, index = s.topk(min(active + 1, s.shape[1]), dim=-1)
    close = torch.zeros(s.shape[0], dtype=torch.bool)
    for j in range(values.shape[1] - 1):
        close |= (values[:, j] - values[:, j + 1]).abs() < 1e-5
    return index[:, :active], close


def layer(x, w, c, expert):
    """y and the auxiliary loss; expert [T, K] is the routing."""
    routed, active = expert_counts(c)
    logits = x @ w["gate.weight"].T
    s = logits.softmax(-1) if c["score"] == "softmax" else logits.sigmoid()
    weight = s.gather(1, expert)
    if c["norm_topk"]:
        weight = weight / weight.sum(-1, keepdim=True)
    weight = weight * c["route_scale"]

    def ffn(v, up, gate, down):
        h = v @ up
        if c["activation"] == "swiglu":
            h = F.silu(v @ gate) * h
        else:
            h = F.relu(h) if c["activation"] == "relu" else F.gelu(h)
        return h @ down

    y = torch.zeros_like(x)
    for e in range(routed):
        t, k = (expert == e).nonzero(as_tuple=True)
        if len(t):
            g = w["experts.up_gate"][e] if "experts.up_gate" in w else None
            y = y.index_add(0, t, ffn(x[t], w["experts.up"][e], g, w["experts.down"][e]) * weight[t, k, None])
    if c["shared"]:
        y = y + ffn(x, w["shared.up"], w.get("shared.up_gate"), w["shared.down"])
    aux = x.new_zeros(())
    if len(x):
        f = torch.bincount(expert.flatten(), minlength=routed).float() * routed / (active * len(x))
        p = s / s.sum(-1, keepdim=True) if c["score"] == "sigmoid" else s
        aux = c["aux_alpha"] * (f * p.mean(0)).sum() + c["z_loss"] * logits.logsumexp(-1).square().mean()
    return y, aux, s


def expert_counts(c):
    return c["segments"] * c["experts"] - c["shared"], c["segments"] * c["top_k"] - c["shared"]


def worst(a, b):
    if a.numel() == 0:
        return 0.0 if a.shape == b.shape else float("inf")
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) if b.abs().max() > 0 else float(a.abs().max())


def compare(i, c, tokens, folder):
    torch.manual_seed(i)
    x, gy = torch.randn(tokens, c["d_model"]), torch.randn(tokens, c["d_model"])
    paths = {n: os.path.join(folder, n) for n in ("config.json", "x.npy", "gy.npy")}
    json.dump(c, open(paths["config.json"], "w"))
    np.save(paths["x.npy"], x.numpy())
    np.save(paths["gy.npy"], gy.numpy())
    r = subprocess.run([WATTLE, "moe", "layer", "--config", paths["config.json"], "--in", paths["x.npy"], "--grad", paths["gy.npy"], "--out", folder,
                        "--seed", str(i)], capture_output=True, text=True)
    if r.returncode:
        raise SystemExit(f"{c}\n{r.stderr}")
    stats = json.loads(r.stdout)
    w = {k: v.requires_grad_() for k, v in read_safetensors(os.path.join(folder, "weights.safetensors")).items()}
    expert = torch.from_numpy(np.load(os.path.join(folder, "experts.npy")))
    x.requires_grad_()
    y, aux, s = layer(x, w, c, expert)
    loss = (y * gy).sum() + aux
    if loss.requires_grad:  # without tokens nothing is in the graph
        loss.backward()
    theirs, close = chosen_by_torch(s.detach(), c, expert.shape[1])
    differs = int(((theirs != expert).any(-1) & ~close).sum())
    zero = lambda t: t.grad if t.grad is not None else torch.zeros_like(t)  # noqa: E731
    errors = {"y": worst(torch.from_numpy(np.load(os.path.join(folder, "y.npy"))), y.detach()),
              "x": worst(torch.from_numpy(np.load(os.path.join(folder, "x_grad.npy"))), zero(x))}
    for name, g in read_safetensors(os.path.join(folder, "grads.safetensors")).items():
        errors[name] = worst(g, zero(w[name]))
    if stats["aux_loss"] is not None:
        errors["aux"] = abs(stats["aux_loss"] - aux.item()) / max(1e-12, abs(aux.item())) if len(x) else abs(stats["aux_loss"])
    name, error = max(errors.items(), key=lambda kv: kv[1])
    good = error <= TOLERANCE and differs == 0
    empty = sum(n == 0 for n in stats["load"])
    print(f"{'ok  ' if good else 'FAIL'} T {tokens:4d}  d {c['d_model']:2d}  {c['shared']}+{len(stats['load'])} top {expert.shape[1]}  {c['activation']:6s} "
          f"{c['score']:7s} groups {c['groups']}/{c['topk_groups']}  {empty} without rows  worst {error:.1e} ({name})  routing differs {differs}", flush=True)
    return good


def main():
    r = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
    good = 0
    for i in range(20):
        with tempfile.TemporaryDirectory() as folder:
            good += compare(i, *random_config(r, i), folder)
    print(f"moe: {good} of 20 layers agree with PyTorch {torch.__version__}")
    sys.exit(good != 20)


main()
