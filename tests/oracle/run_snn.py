#!/usr/bin/env python3
"""Neurons against SpikingJelly, snnTorch and Norse, over the grid of their switches: spikes equal, gradients of the input, of the first
state and of a learned decay (in f64) within 1e-5 of the largest. Libraries that are not installed are named and left out;
--require makes that a failure."""
import itertools
import json
import os
import subprocess
import sys
import tempfile
import warnings

import numpy as np

warnings.filterwarnings("ignore")
import torch  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WATTLE = os.environ.get("WATTLE_BINARY", os.path.join(ROOT, "build", "release", "wattle"))
TOLERANCE = 1e-5
STEPS = (1, 2, 7, 33)
NEURONS = 37


def load(name):
    try:
        return __import__(name, fromlist=["x"])
    except ImportError as e:
        print(f"run_snn: {name} is not installed here ({e}); its neurons are left out")
        return None


def spikingjelly_cases():
    neuron = load("spikingjelly.activation_based.neuron")
    if neuron is None:
        return
    surrogate = load("spikingjelly.activation_based.surrogate")
    slopes = {"sigmoid": lambda: surrogate.Sigmoid(4.0), "atan": lambda: surrogate.ATan(2.0), "soft_sign": lambda: surrogate.SoftSign(2.0),
              "super_spike": lambda: surrogate.SuperSpike(1.0), "quadratic": lambda: surrogate.PiecewiseQuadratic(1.0)}
    for v_reset, detach, (name, make) in itertools.product((0.0, None, 0.25), (False, True), slopes.items()):
        common = {"reset": "soft" if v_reset is None else "hard", "v_reset": v_reset or 0.0, "detach_reset": detach, "surrogate": name}
        keys = dict(v_threshold=1.0, v_reset=v_reset, detach_reset=detach)
        yield (f"IFNode {v_reset} {detach} {name}", {**common, "charge": "integrate"},
               lambda k=keys, m=make: neuron.IFNode(surrogate_function=m(), **k))
        for tau, decay in itertools.product((2.0, 1.7), (True, False)):
            attr = {**common, "charge": "lif", "tau": tau, "decay_input": decay}
            yield (f"ParametricLIFNode tau {tau} decay_input {decay} {v_reset} {detach} {name}", attr,
                   lambda k=keys, m=make, t=tau, d=decay: neuron.ParametricLIFNode(init_tau=t, decay_input=d, surrogate_function=m(), **k))
            yield (f"LIFNode tau {tau} decay_input {decay} {v_reset} {detach} {name}", attr,
                   lambda k=keys, m=make, t=tau, d=decay: neuron.LIFNode(tau=t, decay_input=d, surrogate_function=m(), **k))


def snntorch_cases():
    snn = load("snntorch")
    if snn is None:
        return
    from snntorch import surrogate

    slopes = {"atan": surrogate.atan(), "fast_sigmoid": surrogate.fast_sigmoid(25)}
    resets = {"subtract": "soft", "zero": "hard", "none": "none"}
    for beta, (theirs, ours), delay, (name, grad) in itertools.product((0.5, 0.9), resets.items(), (True, False), slopes.items()):
        attr = {"charge": "leaky", "beta": beta, "reset": ours, "strict": True, "delayed": delay, "detach_reset": delay, "surrogate": name}
        for learned in (False, True):
            yield (f"Leaky {beta} {theirs} delay {delay} {name} learned {learned}", attr,
                   lambda b=beta, r=theirs, d=delay, g=grad, l=learned: snn.Leaky(
                       beta=b, learn_beta=l, reset_mechanism=r, reset_delay=d, spike_grad=g))


def driven_cases():
    """Neurons behind a current: attributes of the current's leaky integrator, of the neuron, and the library's step."""
    current = lambda decay: {"charge": "leaky", "beta": decay, "reset": "none"}  # noqa: E731
    if (neuron := load("spikingjelly.activation_based.neuron")) is not None:
        surrogate = load("spikingjelly.activation_based.surrogate")
        for c, v, v_reset in itertools.product((0.5, 0.8), (0.75, 0.9), (0.0, None)):
            attr = {"charge": "leaky", "beta": v, "reset": "soft" if v_reset is None else "hard", "surrogate": "atan"}
            make = lambda c=c, v=v, r=v_reset: neuron.CUBALIFNode(c, v, 1.0, r, surrogate.ATan(2.0))  # noqa: E731
            run = lambda node, x: torch.stack([node(t) for t in x])  # noqa: E731
            yield "spikingjelly", f"CUBALIFNode {c} {v} {v_reset}", current(c), attr, make, run
    if (snn := load("snntorch")) is not None:
        ours = {"subtract": "soft", "zero": "clear", "none": "none"}
        for alpha, beta, reset in itertools.product((0.5, 0.8), (0.75, 0.9), ours):
            attr = {"charge": "leaky", "beta": beta, "reset": ours[reset], "strict": True, "delayed": True,
                    "detach_reset": True, "surrogate": "atan"}
            make = lambda a=alpha, b=beta, r=reset: snn.Synaptic(alpha=a, beta=b, reset_mechanism=r)  # noqa: E731
            yield "snntorch", f"Synaptic {alpha} {beta} {reset}", current(alpha), attr, make, by_synaptic
    if load("norse") is not None:
        for syn, mem in ((200.0, 100.0), (100.0, 250.0)):
            # Decays are factors there, so they are given as operands here.
            i = {"charge": "lif", "decay_input": False, "by_difference": True, "reset": "none", "decay": np.float32(0.001) * np.float32(syn)}
            v = {"charge": "lif", "strict": True, "surrogate": "super_spike", "slope": 1.0, "decay": np.float32(0.001) * np.float32(mem)}
            yield "norse", f"LIF {syn} {mem}", i, v, lambda s=syn, m=mem: (s, m), by_norse


def adaptive_cases():
    """Neurons with a gain or a second state: attributes, the library's neuron, and whether it has that state."""
    if (neuron := load("spikingjelly.activation_based.neuron")) is None:
        return
    surrogate = load("spikingjelly.activation_based.surrogate")
    for v_reset, detach, tau in itertools.product((0.0, None, 0.25), (False, True), (2.0, 1.7)):
        common = {"reset": "soft" if v_reset is None else "hard", "v_reset": v_reset or 0.0, "detach_reset": detach, "tau": tau,
                  "surrogate": "sigmoid"}
        keys = dict(tau=tau, v_threshold=1.0, v_reset=v_reset, detach_reset=detach, surrogate_function=surrogate.Sigmoid(4.0))
        for decay, scaled in itertools.product((True, False), (True, False)):
            yield (f"KLIFNode tau {tau} decay_input {decay} scale_reset {scaled} {v_reset} {detach}",
                   {**common, "kind": "klif", "decay_input": decay, "scale_reset": scaled},
                   lambda k=keys, d=decay, r=scaled: neuron.KLIFNode(decay_input=d, scale_reset=r, **k), False)
        for a, b in ((0.0, 0.0), (0.3, 0.2)):
            # Subtracting does not hold back a square for long: a small one there.
            a0 = 1.0 if v_reset is not None else 0.1
            yield (f"IzhikevichNode tau {tau} a {a} b {b} {v_reset} {detach}",
                   {**common, "kind": "izhikevich", "a": a, "b": b, "a0": a0, "tau_w": 3.0},
                   lambda k=keys, p=(a, b, a0): neuron.IzhikevichNode(a=p[0], b=p[1], a0=p[2], tau_w=3.0, **k), True)


def by_synaptic(node, x):
    syn, mem, spikes = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
    for t in x:
        s, syn, mem = node(t, syn, mem)
        spikes.append(s)
    return torch.stack(spikes)


def by_norse(rates, x):
    from norse.torch.functional import lif

    p = lif.LIFParameters(tau_syn_inv=torch.tensor(rates[0]), tau_mem_inv=torch.tensor(rates[1]), alpha=torch.tensor(100.0))
    state, spikes = lif.LIFFeedForwardState(v=torch.zeros_like(x[0]), i=torch.zeros_like(x[0])), []
    for t in x:
        s, state = lif.lif_feed_forward_step(t, state, p)
        spikes.append(s)
    return torch.stack(spikes)


def by_spikingjelly(node, x, v):
    node.v = v
    spikes = [node(x[t]) for t in range(len(x))]
    return torch.stack(spikes), node.v


def by_snntorch(node, x, v):
    spikes, mem = [], v
    for t in range(len(x)):
        s, mem = node(x[t], mem)
        spikes.append(s)
    return torch.stack(spikes), mem


def off(ours, theirs):
    scale = max(1e-3, float(np.abs(theirs).max()))
    return float(np.abs(ours - theirs).max()) / scale


def learned_decay(node):
    """The decay that ours is given as an operand, and its gradient; None where the node has none."""
    if hasattr(node, "w"):  # 1/tau = sigmoid(w)
        d = torch.sigmoid(node.w.detach())
        return d, node.w.grad / (d * (1 - d)) if node.w.grad is not None else None
    if isinstance(getattr(node, "beta", None), torch.nn.Parameter):
        return node.beta.detach(), node.beta.grad
    return None, None


def prepare(folder, attr, run, make, steps, generator):
    """Runs the library; writes what ours is given, and returns the request and the answers to expect."""
    # Without a delay, snnTorch's reset is that of the equation while no state starts a step above the threshold.
    most = 1.0 if attr["charge"] == "leaky" and not attr["delayed"] else 3.0
    x = torch.rand(steps, NEURONS, generator=generator) * (most + 1) - 1
    v = torch.rand(NEURONS, generator=generator) * (most / 2 + 0.5) - 0.5
    up, up_v = torch.randn(steps, NEURONS, generator=generator), torch.randn(NEURONS, generator=generator)
    node = make()
    if any(True for _ in node.parameters()):  # the decay's gradient is a sum that cancels: rounding would decide
        node, x, v, up, up_v = node.double(), x.double(), v.double(), up.double(), up_v.double()
    x.requires_grad_(), v.requires_grad_()
    s, end = run(node, x, v)
    ((s * up).sum() + (end * up_v).sum()).backward()
    os.makedirs(folder)
    paths = [os.path.join(folder, n + ".npy") for n in ("x", "v", "up", "up_v")]
    for path, t in zip(paths, (x, v, up, up_v)):
        np.save(path, t.detach().numpy())
    decay, decay_grad = learned_decay(node)
    decay_path = None
    if decay is not None:
        decay_path = os.path.join(folder, "decay.npy")
        np.save(decay_path, decay.reshape(1).numpy())
    request = {"op": "neuron", "in": [paths[0], paths[1], decay_path], "attr": texts(attr), "grad": paths[2:], "out": folder}
    zero = torch.zeros(())
    expected = {"out0": s, "out1": end, "grad0": x.grad, "grad1": v.grad if v.grad is not None else zero.expand(NEURONS)}
    if decay_grad is not None:
        expected["grad2"] = decay_grad.reshape(1)
    return [request], {k: t.detach().numpy() for k, t in expected.items()}


def texts(attr):
    return {k: str(a).lower() if isinstance(a, bool) else str(a) for k, a in attr.items()}


def prepare_driven(folder, current, attr, make, run, steps, generator):
    """As prepare, in three requests: the current, the neuron on it with gradients, and the current's gradient."""
    x = torch.rand(steps, NEURONS, generator=generator) * 2 - 0.5
    up = torch.randn(steps, NEURONS, generator=generator)
    x.requires_grad_()
    s = run(make(), x)
    (s * up).sum().backward()
    for part in ("i", "s", "g"):
        os.makedirs(os.path.join(folder, part))
    at = lambda *n: os.path.join(folder, *n)  # noqa: E731
    none = torch.zeros(steps, NEURONS)
    for name, t in (("x", x), ("up", up), ("none", none), ("none_v", none[0])):
        np.save(at(name + ".npy"), t.detach().numpy())
    operands = {}
    for part, a in (("i", current), ("s", attr)):
        operands[part] = [None, None]
        if "decay" in a:
            operands[part][1] = at(part, "decay.npy")
            np.save(operands[part][1], np.full(1, a["decay"], np.float32))
    current, attr = ({k: v for k, v in a.items() if k != "decay"} for a in (current, attr))
    requests = [{"op": "neuron", "in": [at("x.npy"), *operands["i"]], "attr": texts(current), "out": at("i")},
                {"op": "neuron", "in": [at("i", "out2.npy"), *operands["s"]], "attr": texts(attr), "grad": [at("up.npy")], "out": at("s")},
                {"op": "neuron", "in": [at("x.npy"), *operands["i"]], "attr": texts(current), "out": at("g"),
                 "grad": [at("none.npy"), at("none_v.npy"), at("s", "grad0.npy")]}]
    return requests, {os.path.join("s", "out0"): s.detach().numpy(), os.path.join("g", "grad0"): x.grad.numpy()}


def prepare_adaptive(folder, attr, make, second, steps, generator):
    """As prepare, for a neuron with a gain (in f64: its gradient is a sum that cancels) or a second state."""
    x = torch.rand(steps, NEURONS, generator=generator) * 4 - 1
    v, w = torch.rand(NEURONS, generator=generator) * 2 - 0.5, torch.rand(NEURONS, generator=generator) * 0.8 - 0.2
    up, up_v, up_w = (torch.randn(*n, NEURONS, generator=generator) for n in ((steps,), (), ()))
    node = make()
    if not second:
        node.k.data.fill_(1.3)
        node, x, v, up, up_v = node.double(), x.double(), v.double(), up.double(), up_v.double()
    for t in (x, v, w):
        t.requires_grad_()
    node.v = v
    if second:
        node.w = w
    s = torch.stack([node(x[t]) for t in range(len(x))])
    ((s * up).sum() + (node.v * up_v).sum() + ((node.w * up_w).sum() if second else 0)).backward()
    os.makedirs(folder)
    at = lambda n: os.path.join(folder, n + ".npy")  # noqa: E731
    for name, t in (("x", x), ("v", v), ("w", w), ("up", up), ("up_v", up_v), ("up_w", up_w)):
        np.save(at(name), t.detach().numpy())
    expected = {"out0": s, "out1": node.v, "grad0": x.grad, "grad1": v.grad}
    operands, ups = [at("x"), at("v")], [at("up"), at("up_v")]
    if second:
        operands.append(at("w")), ups.append(at("up_w"))
        expected |= {"out2": node.w, "grad2": w.grad}
    else:
        np.save(at("k"), node.k.detach().reshape(1).numpy())
        operands += [None, at("k")]
        expected["grad3"] = node.k.grad.reshape(1)
    request = {"op": "adaptive_neuron", "in": operands, "attr": texts(attr), "grad": ups, "out": folder}
    return [request], {k: t.detach().numpy() for k, t in expected.items()}


def differences(folder, expected):
    found = []
    names = {"out0": "spikes", "out1": "state", "grad0": "gradient of x", "grad1": "gradient of v", "grad2": "gradient of the decay or w",
             "out2": "w", "grad3": "gradient of the gain"}
    for name in expected:
        what = names[os.path.basename(name)]
        path = os.path.join(folder, name + ".npy")
        if not os.path.exists(path):
            return ["no answer"]
        ours, theirs = np.load(path), expected[name]
        if what == "spikes" and not np.array_equal(ours, theirs):
            found.append(f"{int((ours != theirs).sum())} of {theirs.size} spikes differ")
        if what != "spikes" and off(ours, theirs) > TOLERANCE:
            found.append(f"{what} off by {off(ours, theirs):.2g}")
    return found


def main():
    generator = torch.Generator().manual_seed(1)
    with tempfile.TemporaryDirectory() as root:
        jobs = []
        for library, cases, run in (("spikingjelly", spikingjelly_cases(), by_spikingjelly), ("snntorch", snntorch_cases(), by_snntorch)):
            for what, attr, make in cases:
                for steps in STEPS:
                    folder = os.path.join(root, str(len(jobs)))
                    jobs.append((library, f"{what}, T={steps}", folder, *prepare(folder, attr, run, make, steps, generator)))
        for what, attr, make, second in adaptive_cases():
            for steps in STEPS:
                folder = os.path.join(root, str(len(jobs)))
                jobs.append(("spikingjelly", f"{what}, T={steps}", folder, *prepare_adaptive(folder, attr, make, second, steps, generator)))
        for library, what, current, attr, make, run in driven_cases():
            for steps in STEPS:
                folder = os.path.join(root, str(len(jobs)))
                jobs.append((library, f"{what}, T={steps}", folder, *prepare_driven(folder, current, attr, make, run, steps, generator)))
        batch = os.path.join(root, "batch.jsonl")
        with open(batch, "w") as f:
            f.writelines(json.dumps(r) + "\n" for j in jobs for r in j[3])
        done = subprocess.run([WATTLE, "op", "--batch", batch], capture_output=True, text=True)
        if done.returncode:
            print(done.stderr[-500:])
        failed, counts = [], {}
        for library, what, folder, _, expected in jobs:
            counts[library] = counts.get(library, 0) + 1
            found = differences(folder, expected)
            if found:
                failed.append(f"{library} {what}: " + "; ".join(found))
    for line in failed[:40]:
        print("run_snn:", line)
    compared = ", ".join(f"{n} comparisons with {k}" for k, n in counts.items()) or "no library installed"
    print(f"run_snn: {compared}, {len(failed)} differ")
    return 1 if failed or ("--require" in sys.argv and len(counts) < 2) else 0


if __name__ == "__main__":
    sys.exit(main())
