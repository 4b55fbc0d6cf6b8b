#!/usr/bin/env python3
"""Training steps, products and convolutions on one GPU, ours against PyTorch's: time and joules.

Both sides are workers that sleep in read() until asked. Each row: one unrecorded request a side, then pairs in the order
A B, B A, ...; a request runs for --seconds. Joules are the gain of the GPU's energy counter (NVML) around a request, read
here for both sides alike. Ratios are theirs / ours (time) and ours / theirs (joules) of the medians of one pair.
    cuda_against_pytorch.py [--wattle PATH] [--pairs 3] [--seconds 0.6] [--rows steps,gemm,conv,kernels] [--json FILE]
"""
import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent
STEPS = [("fashion-mnist", "cnn", 3, 1, 1, b) for b in (32, 128)] + [
    ("fashion-mnist", "densepoly", 3, 0, 0, 128), ("cifar10", "cnn", 3, 4, 1, 128), ("fashion-mnist", "cnn", 7, 4, 1, 32)]
GEMMS = [(n, math) for n in (2048, 4096, 8192) for math in ("f32", "tf32", "bf16")]
CONVS = [(p, *s) for s in ((128, 64, 32, 64, 3, 1, 1), (128, 128, 16, 128, 3, 1, 1), (128, 256, 8, 256, 3, 1, 1))
         for p in ("forward", "input", "weight")]


class Energy:
    """The energy counter of the first GPU in millijoules; None where NVML does not tell."""

    def __init__(self):
        try:
            import pynvml
            pynvml.nvmlInit()
            self.nvml, self.handle = pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
            self.read()
        except Exception as error:  # no library, no permission: rows without joules
            self.nvml, self.why = None, str(error)

    def read(self):
        return self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) * 1e-3 if self.nvml else None


class Worker:
    def __init__(self, name, command):
        self.name = name
        self.child = subprocess.Popen(command, text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        greeting = self.line()
        if not greeting.startswith("ready"):
            raise SystemExit(f"{name}: expected a line 'ready {{...}}', got {greeting!r}")
        self.about = json.loads(greeting[len("ready"):])

    def line(self):
        text = self.child.stdout.readline()
        if not text:
            raise SystemExit(f"{self.name}: left with exit code {self.child.wait()}")
        return text.strip()

    def ask(self, order):
        self.child.stdin.write(order + "\n")
        return self.line()

    def timed(self, order, energy):
        """-> seconds and joules of one call; None when the side cannot do it."""
        before = energy.read()
        reply = self.ask(order)
        found = re.fullmatch(r"calls (\d+) seconds ([\d.eE+-]+)", reply)
        if not found:
            print(f"  {self.name}: {order}: {reply}", flush=True)
            return None
        after = energy.read()
        n = int(found[1])
        return float(found[2]) / n, (after - before) / n if before is not None else None


def serve():
    """PyTorch's side."""
    import torch
    sys.path.insert(0, str(BENCH.parent / "tests" / "oracle"))
    gpu = torch.device("cuda")
    about = {"version": torch.__version__, "gpu": torch.cuda.get_device_name(), "cudnn": torch.backends.cudnn.version()}
    print("ready", json.dumps(about), flush=True)
    torch.backends.cudnn.benchmark = True
    math = "f32"
    trainers = {}

    def set_math(name):
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        torch.backends.cudnn.allow_tf32 = name == "tf32"

    class Fire(torch.autograd.Function):
        """Step with the atan surrogate, slope 2."""

        @staticmethod
        def forward(ctx, u):
            ctx.save_for_backward(u)
            return (u >= 0).float()

        @staticmethod
        def backward(ctx, g):
            u, = ctx.saved_tensors
            return g / (1 + (torch.pi * u) ** 2)

    def lif(steps, n, backward):
        x = torch.randn(steps, n, device=gpu, requires_grad=backward)

        def call():
            v, spikes = torch.zeros(n, device=gpu), []
            for t in range(steps):
                v = v + (x[t] - v) / 2.0
                s = Fire.apply(v - 1.0)
                v = v * (1 - s)
                spikes.append(s)
            out = torch.stack(spikes)
            if backward:
                x.grad = None
                out.sum().backward()

        return call

    def moe(tokens, d, h, experts, k):
        x, w1, w2 = (torch.randn(s, device=gpu) for s in ((tokens, d), (experts, d, h), (experts, h, d)))
        weight, expert = torch.softmax(torch.randn(tokens, experts, device=gpu), -1).topk(k)
        order = expert.flatten().argsort(stable=True)
        token, counts = order // k, torch.bincount(expert.flatten(), minlength=experts).tolist()
        flat = weight.flatten()[order, None]

        def call():
            parts = [torch.relu(p @ w1[e]) @ w2[e] for e, p in enumerate(x[token].split(counts)) if len(p)]
            return torch.zeros_like(x).index_add_(0, token, torch.cat(parts) * flat)

        return call

    def run(seconds, call, group=50):
        for _ in range(3):
            call()
        torch.cuda.synchronize()
        calls, start = 0, time.perf_counter()
        while True:
            for _ in range(group):
                call()
            calls += group
            torch.cuda.synchronize()
            if time.perf_counter() - start >= seconds:
                return f"calls {calls} seconds {time.perf_counter() - start:.6f}"

    def trainer(dataset, net, linear, conv, relu, batch, mode):
        from study_net import StudyCnn
        torch.manual_seed(0)
        channels, size = (1, 28) if dataset == "fashion-mnist" else (3, 32)
        model = StudyCnn(linear, conv if net == "cnn" else 0, relu, channels, size).to(gpu).train()
        capturable = mode == "graph"
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True, capturable=capturable)
        x = torch.randint(0, 256, (batch, channels, size, size), dtype=torch.uint8, device=gpu)
        y = torch.randint(0, 10, (batch,), device=gpu)

        def forward_backward():
            loss = torch.nn.functional.cross_entropy(model(x.float() / 255), y)
            loss.backward()
            return loss

        compiled = torch.compile(forward_backward, mode="reduce-overhead") if mode == "compiled" else forward_backward

        def step():
            optimizer.zero_grad(set_to_none=True)
            compiled()
            optimizer.step()

        if mode != "graph":
            return step
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            forward_backward()
            optimizer.step()
        return graph.replay

    for line in sys.stdin:
        words = line.split()
        try:
            if words[0] == "quit":
                return
            if words[0] == "math":
                math = words[1]
                set_math(math)
                print("ok", flush=True)
            elif words[0] == "deterministic":
                torch.backends.cudnn.benchmark = words[1] == "0"
                print("ok", flush=True)
            elif words[0] == "step":
                key = (words[1], words[2], *map(int, words[3:6]), int(words[7]), words[8])
                if key not in trainers:
                    trainers[key] = trainer(*key)
                print(run(float(words[-1]), trainers[key]), flush=True)
            elif words[0] == "gemm":
                m, n, k = map(int, words[1:4])
                a, b = (torch.randn(s, device=gpu) for s in ((m, k), (k, n)))
                if math == "bf16":
                    a, b = a.bfloat16(), b.bfloat16()
                print(run(float(words[-1]), lambda: a @ b), flush=True)
            elif words[0] == "conv":
                n, c, h, k, r, stride, pad = map(int, words[2:9])
                x = torch.randn(n, c, h, h, device=gpu)
                w = torch.randn(k, c, r, r, device=gpu)
                gy = torch.randn_like(torch.nn.functional.conv2d(x, w, stride=stride, padding=pad))
                args = ((stride, stride), (pad, pad), (1, 1), False, (0, 0), 1)
                mask = {"forward": None, "input": (True, False, False), "weight": (False, True, False)}[words[1]]
                call = (lambda: torch.nn.functional.conv2d(x, w, stride=stride, padding=pad)) if mask is None else (
                    lambda: torch.ops.aten.convolution_backward(gy, x, w, None, *args, mask))
                print(run(float(words[-1]), call), flush=True)
            elif words[0] == "copy":
                x = torch.randn(int(words[1]), device=gpu)
                print(run(float(words[-1]), lambda: x * 1.0), flush=True)
            elif words[0] in ("lif", "lifgrad"):
                print(run(float(words[-1]), lif(int(words[1]), int(words[2]), words[0] == "lifgrad"), 2), flush=True)
            elif words[0] == "moe":
                print(run(float(words[-1]), moe(*map(int, words[1:6])), 5), flush=True)
        except Exception as error:  # the other side goes on
            print("error", str(error).replace("\n", " ")[:300], flush=True)


def compare(ours, theirs, energy, label, order, their_order, pairs):
    """One row: medians, the ratio of time (theirs / ours) and of joules (ours / theirs)."""
    got = {"ours": [], "theirs": []}
    sides = [("ours", ours, order), ("theirs", theirs, their_order)]
    for i in range(-1, pairs):
        for name, worker, text in sides[:: 1 if i % 2 else -1]:
            r = worker.timed(text, energy)
            if r is None:
                return None
            if i >= 0:
                got[name].append(r)
    time_ratio = statistics.median(b[0] / a[0] for a, b in zip(got["ours"], got["theirs"]))
    row = {"row": label, "ours_us": 1e6 * statistics.median(a[0] for a in got["ours"]),
           "theirs_us": 1e6 * statistics.median(b[0] for b in got["theirs"]), "speed": time_ratio}
    joules = ""
    if got["ours"][0][1] is not None:
        row["ours_mj"] = 1e3 * statistics.median(a[1] for a in got["ours"])
        row["theirs_mj"] = 1e3 * statistics.median(b[1] for b in got["theirs"])
        row["joules"] = statistics.median(a[1] / b[1] for a, b in zip(got["ours"], got["theirs"]))
        joules = f"{row['ours_mj']:9.3f} {row['theirs_mj']:10.3f} {row['joules']:7.3f}"
    print(f"{label:58s} {row['ours_us']:10.1f} {row['theirs_us']:11.1f} {time_ratio:7.2f} {joules}", flush=True)
    return row


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--wattle", default=str(BENCH.parent / "build" / "release" / "wattle"))
    p.add_argument("--pairs", type=int, default=3)
    p.add_argument("--seconds", type=float, default=0.6)
    p.add_argument("--rows", default="steps,gemm,conv,kernels")
    p.add_argument("--modes", default="eager-eager,graph-eager,graph-graph,graph-compiled")
    p.add_argument("--json")
    p.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.peer:
        return serve()
    energy = Energy()
    ours = Worker("wattle", [o.wattle, "bench", "cuda", "--worker"])
    theirs = Worker("PyTorch", [sys.executable, __file__, "--peer"])
    print(f"{ours.about['gpu']}: wattle {ours.about['version']} against PyTorch {theirs.about['version']} (cuDNN {theirs.about['cudnn']}), "
          f"{o.pairs} pairs of {o.seconds} s; TF32 off but where a row says so, cudnn.benchmark on")
    print(f"{'row':58s} {'ours us':>10s} {'theirs us':>11s} {'speed':>7s} {'ours mJ':>9s} {'theirs mJ':>10s} {'joules':>7s}")
    rows = []
    both = (ours, theirs)

    def add(label, order, their_order=None):
        row = compare(ours, theirs, energy, label, order, their_order or order, o.pairs)
        if row:
            rows.append(row)

    if "steps" in o.rows:
        for w in both:
            w.ask("math f32")
        ours.ask("deterministic 1")
        for s in STEPS:
            for mode in o.modes.split(","):
                mine, other = mode.split("-")
                base = "step {} {} {} {} {} batch {}".format(*s)
                add(f"{base[5:]}: {mine} against {other}", f"{base} {mine} seconds {o.seconds}",
                    f"{base} {other} seconds {o.seconds}")
    if "small" in o.rows:
        for mode in o.modes.split(","):
            mine, other = mode.split("-")
            base = "step {} {} {} {} {} batch {}".format(*STEPS[1])
            if mine == "uncounted":
                got = {"graph": [], "uncounted": []}
                for i in range(6 * o.pairs):
                    for side in ("graph", "uncounted")[:: 1 if i % 2 else -1]:
                        got[side].append(ours.timed(f"{base} {side} seconds {o.seconds / 4}", energy)[0])
                ratio = statistics.median(a / b for a, b in zip(got["graph"], got["uncounted"]))
                rows.append({"row": f"{base[5:]}: counted over uncounted replay", "time": ratio})
                print(f"{rows[-1]['row']}: {ratio:.4f}", flush=True)
                continue
            add(f"{base[5:]}: {mine} against {other}", f"{base} {mine} seconds {o.seconds}",
                f"{base} {other} seconds {o.seconds}")
    if "gemm" in o.rows:
        for n, math in GEMMS:
            for w in both:
                w.ask(f"math {math}")
            add(f"gemm {n}^3 {math}", f"gemm {n} {n} {n} seconds {o.seconds}")
    if "conv" in o.rows:
        ours.ask("deterministic 0")
        for math in ("f32", "tf32"):
            for w in both:
                w.ask(f"math {math}")
            for c in CONVS:
                add(f"conv {' '.join(map(str, c))} {math}", f"conv {' '.join(map(str, c))} seconds {o.seconds}")
    if "kernels" in o.rows:
        for w in both:
            w.ask("math f32")
        add("copy of 256 Mi numbers", f"copy {1 << 28} seconds {o.seconds}")
        for t, n in ((16, 1 << 22), (64, 1 << 18)):
            add(f"LIF forward, {t} steps of {n}", f"lif {t} {n} seconds {o.seconds}")
            add(f"LIF forward and backward, {t} steps of {n}", f"lifgrad {t} {n} seconds {o.seconds}")
        for math in ("f32", "tf32"):
            for w in both:
                w.ask(f"math {math}")
            for m in ((8192, 1024, 2048, 8, 2), (2048, 1024, 1024, 64, 2), (8192, 1024, 512, 64, 4)):
                add("MoE {} tokens, {}-{}, {} experts, top {} ".format(*m) + math,
                    f"moe {' '.join(map(str, m))} seconds {o.seconds}")
    if o.json:
        Path(o.json).write_text(json.dumps({"ours": ours.about, "theirs": theirs.about, "rows": rows}, indent=1) + "\n")
    return 0


sys.exit(main())
