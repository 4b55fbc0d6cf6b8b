#!/usr/bin/env python3
"""NIR files against the `nir` package and snnTorch: a net that snnTorch exports gives the same spikes here, and what is written here
is read there, node by node, and exported again. Packages that are not installed are named and left out; --require makes that a failure."""
import os
import subprocess
import sys
import tempfile
import warnings

import numpy as np

warnings.filterwarnings("ignore")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WATTLE = os.environ.get("WATTLE_BINARY", os.path.join(ROOT, "build", "release", "wattle"))
STEPS, BATCH = 40, 7


def wattle(*args):
    r = subprocess.run([WATTLE, "nir", *map(str, args)], capture_output=True, text=True)
    if r.returncode != 0:
        raise SystemExit(f"run_nir: wattle nir {' '.join(map(str, args))}: {r.stderr}")


def nets(torch, snn):
    def leaky(n, beta, **more):
        return snn.Leaky(beta=torch.full((n,), beta), threshold=torch.full((n,), 1.0), reset_mechanism="zero", init_hidden=True, **more)

    nn = torch.nn
    yield "Linear, Leaky, Linear, Leaky", (12,), nn.Sequential(nn.Linear(12, 30), leaky(30, 0.9), nn.Linear(30, 8), leaky(8, 0.8, output=True))
    yield "Linear without bias, Leaky", (12,), nn.Sequential(nn.Linear(12, 9, bias=False), leaky(9, 0.5, output=True))
    yield "Conv2d, Leaky, AvgPool2d, Flatten, Linear, Leaky", (2, 8, 8), nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), snn.Leaky(beta=torch.full((4, 8, 8), 0.7), threshold=torch.full((4, 8, 8), 1.0), reset_mechanism="zero",
                                                 init_hidden=True), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 6), leaky(6, 0.9, output=True))


FIELDS = ("weight", "bias", "tau", "r", "v_threshold", "v_leak", "v_reset", "tau_syn", "tau_mem", "w_in", "stride", "padding", "kernel_size")


def same(a, b):
    """A node and its copy: the same type and numbers; one number for a layer may stand once for all neurons."""
    if type(a) is not type(b):
        return False
    return all(np.allclose(getattr(a, f), getattr(b, f), rtol=1e-5) for f in FIELDS if hasattr(a, f))


def main():
    try:
        import nir
        import snntorch as snn
        import torch
        from snntorch import utils
        from snntorch.export_nir import export_to_nir
    except ImportError as e:
        print(f"run_nir: {e}; nothing compared")
        return "--require" in sys.argv
    wrong = compared = 0
    for number, (name, shape, net) in enumerate(nets(torch, snn)):
        torch.manual_seed(number)
        for p in net.parameters():
            if p.dim() > 1:
                torch.nn.init.normal_(p, 0, 1.5 / np.sqrt(p[0].numel()))
        x = 2 * torch.rand(STEPS, BATCH, *shape)
        with tempfile.TemporaryDirectory() as d, torch.no_grad():
            file = os.path.join(d, "net.nir")
            nir.write(file, export_to_nir(net, torch.rand(1, *shape), ignore_dims=[0]))
            utils.reset(net)
            theirs = torch.stack([net(x[t])[0] for t in range(STEPS)]).numpy()
            np.save(os.path.join(d, "x.npy"), x.numpy())
            wattle("run", file, "--in", os.path.join(d, "x.npy"), "--out", os.path.join(d, "y.npy"))
            ours = np.load(os.path.join(d, "y.npy"))
            differ = int((ours != theirs).sum())
            print(f"{name}: {theirs.size} outputs, {int(theirs.sum())} spikes, {differ} differ")
            wrong += differ > 0 or theirs.sum() == 0
            # Written here, read there.
            wattle("copy", file, "--out", os.path.join(d, "again.nir"))
            a, b = nir.read(file), nir.read(os.path.join(d, "again.nir"))
            for key, node in a.nodes.items():
                compared += 1
                if not same(node, b.nodes.get(key)):
                    print(f"{name}: node {key} ({type(node).__name__}) does not come back")
                    wrong += 1
            wattle("run", os.path.join(d, "again.nir"), "--in", os.path.join(d, "x.npy"), "--out", os.path.join(d, "z.npy"))
            wrong += int((np.load(os.path.join(d, "z.npy")) != ours).any())
    print(f"run_nir: nir {nir.version if isinstance(nir.version, str) else ''}: {compared} nodes read back, {wrong} wrong")
    return int(wrong > 0)


sys.exit(main())
