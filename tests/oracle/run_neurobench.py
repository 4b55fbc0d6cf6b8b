#!/usr/bin/env python3
"""NeuroBench's metrics of nets against the `neurobench` package, which runs them in snnTorch. Its speech net (20 inputs, 256, 256, 35
neurons) and a convolutional one go over as NIR files. What is defined alike has to agree; what is not is named, with its reason.
Packages that are not installed are named and left out; --require makes that a failure."""
import json
import os
import subprocess
import sys
import tempfile
import warnings

import numpy as np

warnings.filterwarnings("ignore")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WATTLE = os.environ.get("WATTLE_BINARY", os.path.join(ROOT, "build", "release", "wattle"))
STEPS, BATCH = 30, 16

# Both count the same thing the same way, to the rounding of the package: four digits for connections, integers per batch.
ALIKE = {"ParameterCount": 0, "ConnectionSparsity": 5e-5, "ActivationSparsity": 1e-12, "Effective_MACs": 1e-9, "Effective_ACs": 1e-9,
         "Dense": 1e-9, "MembraneUpdates": 1e-9}


def nets(torch, snn):
    def leaky(shape, beta, **more):
        return snn.Leaky(beta=torch.full(shape, beta), threshold=torch.full(shape, 1.0), reset_mechanism="zero", init_hidden=True, **more)

    nn = torch.nn
    speech = nn.Sequential(nn.Linear(20, 256), leaky((256,), 0.9), nn.Linear(256, 256), leaky((256,), 0.9), nn.Linear(256, 35),
                           leaky((35,), 0.9, output=True))
    with torch.no_grad():  # pruned, so that some connections are none
        speech[2].weight[torch.rand(256, 256) < 0.5] = 0
    yield "the speech net, on spikes", speech, (torch.rand(BATCH, STEPS, 20) < 0.2).float(), True, {}
    conv = nn.Sequential(nn.Conv2d(2, 6, 3, stride=2, padding=1), leaky((6, 5, 5), 0.7), nn.Flatten(), nn.Linear(150, 8),
                         leaky((8,), 0.8, output=True))
    yield "convolutions, on numbers", conv, 3 * torch.rand(BATCH, STEPS, 2, 9, 9), False, {}
    # The package tells additions from multiplications by looking at the values: a first layer that is fed numbers which happen to be
    # 0 and 1 counts as spikes there. Here what feeds a layer decides.
    yield ("numbers that happen to be 0 and 1", nn.Sequential(nn.Linear(12, 9), leaky((9,), 0.5, output=True)),
           (torch.rand(BATCH, STEPS, 12) < 0.5).float(), False, {"Effective_MACs": "Effective_ACs"})


def theirs_of(net, x, torch):
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics import static, workload
    from neurobench.models import SNNTorchModel
    from torch.utils.data import DataLoader, TensorDataset

    metrics = [[static.Footprint, static.ConnectionSparsity, static.ParameterCount],
               [workload.ActivationSparsity, workload.SynapticOperations, workload.MembraneUpdates, workload.NeuronOperations]]
    data = DataLoader(TensorDataset(x, torch.zeros(len(x)).long()), batch_size=len(x))
    found = Benchmark(SNNTorchModel(net), data, [], [], metrics).run(quiet=True)
    return {**found, **found.pop("SynapticOperations")}


def main():
    try:
        import neurobench
        import nir
        import snntorch as snn
        import torch
        from snntorch.export_nir import export_to_nir
    except ImportError as e:
        print(f"run_neurobench: {e}; nothing compared")
        return "--require" in sys.argv
    wrong = compared = 0
    torch.manual_seed(3)
    for name, net, x, spikes, moved in nets(torch, snn):
        for p in net.parameters():
            if p.dim() > 1:
                p.data *= 3
        with tempfile.TemporaryDirectory() as d, torch.no_grad():
            file = os.path.join(d, "net.nir")
            nir.write(file, export_to_nir(net, x[:1, 0], ignore_dims=[0]))
            np.save(os.path.join(d, "x.npy"), x.transpose(0, 1).contiguous().numpy())
            buffers = sum(b.numel() * b.element_size() for b in net.buffers())
            r = subprocess.run([WATTLE, "nir", "run", file, "--in", os.path.join(d, "x.npy"), "--out", os.path.join(d, "y.npy"),
                                "--account", "--json", *(["--spikes"] if spikes else [])], capture_output=True, text=True)
            if r.returncode:
                raise SystemExit(f"run_neurobench: {name}: {r.stderr}")
            ours, theirs = json.loads(r.stdout), theirs_of(net, x, torch)
        print(f"{name}:")
        for key, tolerance in ALIKE.items():
            a, b = ours[key], theirs[moved.get(key, key)]
            if key in moved.values():
                continue
            ok = abs(a - b) <= tolerance * max(1, abs(b))
            compared, wrong = compared + 1, wrong + (not ok)
            note = f"   (there {moved[key]}: told by value)" if key in moved else ""
            print(f"  {key:20s} {a:>14.10g} {b:>14.10g}{note}{'' if ok else '   DIFFERS'}")
        ok = ours["Footprint"] + buffers == theirs["Footprint"]
        compared, wrong = compared + 1, wrong + (not ok)
        print(f"  {'Footprint':20s} {ours['Footprint']:>14d} {theirs['Footprint']:>14d}   (snnTorch keeps {buffers} bytes of buffers: "
              f"decays, thresholds){'' if ok else '   DIFFERS'}")
        print(f"  {'NeuronOperations':20s} {'-':>14s} {theirs['NeuronOperations']['Effective Neuron Ops']:>14.10g}   (there 4 of each update "
              "of a Leaky, from a table; our counters say what the neuron's kernel executes)")
    print(f"run_neurobench: neurobench {neurobench.__version__}: {compared} figures, {wrong} differ")
    return int(wrong > 0)


sys.exit(main())
