"""Reductions, matrix products, layers, losses and optimiser steps, as cases (see case_core.py)."""
import numpy as np
import torch
import torch.nn.functional as F

from case_core import Spec, generator


@generator("sum", "mean", "var")
def reduce_sum(g, name):
    shape = g.shape()
    dims, keepdim = [None if g.i % 4 == 0 else g.dims(len(shape)), g.flag()]
    x = g.randn(shape) + np.float32(1)  # away from zero: a sum of cancelling terms has no relative error
    attrs = {} if dims is None else {"dim": dims if len(dims) > 1 else dims[0], "keepdim": keepdim}
    if dims is None and g.i % 8:
        attrs["dim"] = None
    keepdim = attrs.get("keepdim", False)
    if name != "var":
        call = getattr(torch, name)
        return Spec([x], (lambda x: call(x)) if dims is None else lambda x: call(x, dims, keepdim), attrs)
    count = int(np.prod([shape[d] for d in dims])) if dims else x.size
    correction = 0 if count < 3 else g.pick([0, 1, 2])
    if correction != 1 or g.flag():
        attrs["correction"] = correction
    return Spec([x], lambda x: torch.var(x, dims, correction=correction, keepdim=keepdim), attrs)


@generator("max", "min")
def extremum(g, name):
    shape = g.shape(2, 4)
    keepdim, kind = g.flag(), g.i % 3
    full, amount = getattr(torch, name), getattr(torch, "a" + name)
    if kind == 0:  # over everything; ties share the gradient evenly
        return Spec([g.grid(shape) if g.i % 2 else g.distinct(shape)], lambda x: full(x), {})
    if kind == 1:
        dim = g.dimension(len(shape))
        return Spec([g.distinct(shape)], lambda x: tuple(full(x, dim, keepdim)),
                    {"dim": dim, "keepdim": keepdim})
    dims = g.dims(len(shape), int(g.rng.integers(2, len(shape) + 1)))
    return Spec([g.grid(shape) if g.i % 2 else g.distinct(shape)], lambda x: amount(x, dims, keepdim),
                {"dim": dims, "keepdim": keepdim})


@generator("argmax")
def argmax(g):
    shape = g.shape(1, 4)
    x = g.grid(shape) if g.i % 2 else g.distinct(shape)  # ties: the first one
    if g.i % 4 == 3:
        return Spec([x], lambda x: torch.argmax(x), {}, grad=False)
    dim, keepdim = g.dimension(len(shape)), g.flag()
    return Spec([x], lambda x: torch.argmax(x, dim, keepdim), {"dim": dim, "keepdim": keepdim}, grad=False)


def swapped(shape, flag):
    return [*shape[:-2], shape[-1], shape[-2]] if flag else list(shape)


@generator("matmul")
def matmul(g):
    m, k, n = ([g.dim() for _ in range(3)] if g.small or g.i % 4 != 3 else
               [int(v) for v in g.rng.choice([17, 33, 65, 96, 130, 257], 3)])
    kind = g.i % 10
    if kind in (4, 5, 6):  # vectors on one or both sides
        a, b = {4: ([k], [k]), 5: ([g.dim(), m, k], [k]), 6: ([k], [g.dim(), k, n])}[kind]
        return Spec([g.randn(a), g.randn(b)], torch.matmul)
    lead = {0: ([], []), 1: ([g.dim(2)],) * 2, 2: ([], [g.dim(2), g.dim(2)]), 7: ([3, 1], [2]), 8: ([g.dim(2)], []),
            9: ([1], [g.dim(2)])}.get(kind, ([], []))
    ta, tb = [(False, False), (True, False), (False, True), (True, True)][int(g.rng.integers(4))]
    a, b = swapped([*lead[0], m, k], ta), swapped([*lead[1], k, n], tb)

    def call(x, y):
        return torch.matmul(x.transpose(-2, -1) if ta else x, y.transpose(-2, -1) if tb else y)

    attrs = {key: True for key, on in (("transpose_a", ta), ("transpose_b", tb)) if on}
    return Spec([g.randn(a), g.randn(b)], call, attrs)


@generator("linear")
def linear(g):
    fan_in, out = (g.dim(), g.dim()) if g.i % 4 != 3 or g.small else (147, 49)
    lead = [[g.dim()], [g.dim(), g.dim()], [], [129]][g.i % 4]
    lead = lead if not g.small else lead[:1] and [g.dim()]
    ins = [g.randn([*lead, fan_in]), g.randn([out, fan_in])] + ([g.randn([out])] if g.i % 3 else [])
    return Spec(ins, F.linear)


@generator("conv2d")
def conv2d(g):
    groups = [1, 1, 2, 3][g.i % 4]
    c, k = groups * g.dim(1, 4), groups * g.dim(1, 4)
    kernel = [g.pick([1, 2, 3, 5]), g.pick([1, 3, 3, 4])] if g.i % 3 else [3, 3]
    stride = 1 if g.i % 3 == 0 else g.pick([2, [2, 1], [1, 3]])
    padding = 1 if g.i % 3 == 0 else g.pick([0, 1, [2, 1], [0, 2]])
    dilation = 1 if g.i % 4 != 1 else g.pick([2, [1, 2]])
    dil = [dilation] * 2 if isinstance(dilation, int) else dilation
    size = [dil[d] * (kernel[d] - 1) + g.dim(1, 9) for d in range(2)]
    n = g.dim(1, 4)
    if not g.small and g.i in (3, 12, 15):  # shapes of the study: many images, few channels
        groups, dilation, stride, padding, kernel = 1, 1, 1, 1, [3, 3]
        n, c, k, size = {3: (5, 1, 3, [28, 28]), 12: (3, 9, 27, [7, 7]), 15: (2, 3, 64, [33, 17])}[g.i]
    bias = g.i % 3 != 2
    ins = [g.randn([n, c, *size]), g.randn([k, c // groups, *kernel])] + ([g.randn([k])] if bias else [])
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    full = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    attrs = {key: v for key, v in full.items() if v != defaults[key]}
    return Spec(ins, lambda x, w, b=None: F.conv2d(x, w, b, **full), attrs)


def pool_geometry(g):
    kernel = [2, 3, [2, 3], [3, 1]][g.i % 4]
    edge = kernel if isinstance(kernel, list) else [kernel] * 2
    padding = g.pick([0, 1]) if min(edge) > 1 else [1, 0]
    stride = g.pick([None, 1, 2, [2, 1]])
    full = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": g.i % 3 == 2}
    return full, [e + g.dim(1, 9) for e in edge]


def pool_attrs(full, defaults):
    return {k: v for k, v in full.items() if k == "kernel_size" or v != defaults.get(k)}


@generator("max_pool2d")
def max_pool2d(g):
    full, size = pool_geometry(g)
    full["dilation"] = 2 if g.i % 5 == 3 else 1
    size = [s + 4 for s in size] if full["dilation"] > 1 else size
    if not g.small and g.i == 4:
        full = {"kernel_size": 2, "stride": None, "padding": 0, "ceil_mode": False, "dilation": 1}
        size = [28, 28]
    x = [g.dim(1, 4), g.dim(1, 4), *size]
    x = np.maximum(g.grid(x), 0) if g.i % 4 == 1 else g.distinct(x)  # after a ReLU: the first of ties
    attrs = pool_attrs(full, {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False})
    return Spec([x], lambda x: F.max_pool2d(x, **full), attrs)


@generator("avg_pool2d")
def avg_pool2d(g):
    full, size = pool_geometry(g)
    full["count_include_pad"] = g.i % 2 == 0
    attrs = pool_attrs(full, {"stride": None, "padding": 0, "ceil_mode": False, "count_include_pad": True})
    return Spec([g.randn([g.dim(1, 4), g.dim(1, 4), *size])], lambda x: F.avg_pool2d(x, **full), attrs)


@generator("batch_norm")
def batch_norm(g):
    c = g.dim(1, 7)
    shape = [[g.dim(4, 9), c, g.dim(2), g.dim(2)], [g.dim(6, 9), c], [g.dim(4), c, g.dim(3)]][g.i % 3]
    if not g.small and g.i == 15:
        shape = [33, c, 14, 14]
    training, affine = g.i % 4 != 1, g.i % 5 != 4
    momentum, eps = g.pick([0.1, 0.3]), g.pick([1e-5, 1e-3])
    ins = [g.randn(shape, 1.5) + np.float32(0.5), g.randn([c]), g.uniform([c], 0.5, 2)]
    if g.i % 7 == 6 and training:
        ins[1] = ins[2] = None
    written = (1, 2) if training and ins[1] is not None else ()
    ins += [g.away([c]), g.randn([c])] if affine else []
    attrs = {"training": training, "momentum": momentum, "eps": eps}

    def call(x, mean, var, weight=None, bias=None):
        return F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)

    return Spec(ins, call, attrs, nodiff=(1, 2), inplace=written)


def normalized(g):
    shape = g.shape(2, 4)
    count = int(g.rng.integers(1, len(shape)))
    shape[-1] = max(shape[-1], 4)
    tail = shape[-count:]
    return shape, tail, tail if count > 1 else tail[0]


@generator("layer_norm")
def layer_norm(g):
    shape, tail, text = normalized(g)
    weight, bias = [(True, True), (False, False), (True, False), (False, True)][g.i % 4]
    ins = [g.randn(shape, 2), g.away(tail) if weight else None, g.randn(tail) if bias else None]
    while ins[-1] is None:
        ins.pop()
    eps = g.pick([1e-5, 1e-3])
    attrs = {"normalized_shape": text, **({"eps": eps} if eps != 1e-5 or g.flag() else {})}
    return Spec(ins, lambda x, w=None, b=None: F.layer_norm(x, tail, w, b, eps), attrs)


@generator("rms_norm")
def rms_norm(g):
    shape, tail, text = normalized(g)
    eps = [1e-5, None, 1e-3][g.i % 3]
    ins = [g.randn(shape, 2)] + ([g.away(tail)] if g.i % 2 == 0 else [])
    attrs = {"normalized_shape": text, **({} if eps is None else {"eps": eps})}
    used = float(torch.finfo(torch.float32).eps) if eps is None else eps  # the same eps in the f64 run
    return Spec(ins, lambda x, w=None: F.rms_norm(x, tail, w, used), attrs)


@generator("softmax", "log_softmax")
def softmax(g, name):
    shape = g.shape()
    dim = g.dimension(len(shape))
    scale = 20.0 if g.i % 5 == 3 else 2.0  # large logits: the maximum must be taken out first
    return Spec([g.randn(shape, scale)], lambda x: getattr(F, name)(x, dim), {"dim": dim})


@generator("cross_entropy")
def cross_entropy(g):
    classes = g.dim(2, 12)
    lead = [[g.dim(3, 9)], [g.dim(3, 9)], [g.dim(2, 5), g.dim(1, 4), g.dim(1, 4)], [g.dim(2, 5), g.dim(1, 6)], []][g.i % 5]
    shape = [*lead[:1], classes, *lead[1:]]
    full = {"reduction": g.pick(["mean", "sum", "none"]), "ignore_index": g.pick([-100, 1]) if lead else -100,
            "label_smoothing": [0.0, 0.1, 0.0, 0.25][g.i % 4]}
    target = g.integers(0, classes, lead)
    if lead:
        target.flat[0] = full["ignore_index"]
        target.flat[-1] = 0  # at least one row counts
    defaults = {"reduction": "mean", "ignore_index": -100, "label_smoothing": 0.0}
    attrs = {k: v for k, v in full.items() if v != defaults[k] or g.flag(0.3)}
    return Spec([g.randn(shape, 2), target], lambda x, t: F.cross_entropy(x, t, **full), attrs)


@generator("mse_loss")
def mse_loss(g):
    shape, reduction = g.shape(), ["mean", "sum", "none"][g.i % 3]
    attrs = {} if reduction == "mean" and g.flag() else {"reduction": reduction}
    return Spec([g.randn(shape), g.randn(shape)], lambda x, t: F.mse_loss(x, t, reduction=reduction), attrs)


@generator("embedding")
def embedding(g):
    rows, width = g.dim(2, 12), g.dim()
    return Spec([g.integers(0, rows, g.shape(1, 3)), g.randn([rows, width])], F.embedding)


def optimiser(kind, options, state, step):
    """-> fn(param, grad, *state): one step of torch.optim's own optimiser, begun at `step` - 1."""
    def call(param, grad, *buffers):
        param.requires_grad_()
        param.grad = grad
        torch_optimiser = kind([param], foreach=False, **options)
        if buffers and not (kind is torch.optim.SGD and step == 1):
            entry = {name: b for name, b in zip(state, buffers)}
            if kind is not torch.optim.SGD:
                entry["step"] = torch.tensor(float(step - 1))
            torch_optimiser.state[param] = entry
        torch_optimiser.step()
        param.requires_grad_(False)
        if buffers and kind is torch.optim.SGD and step == 1:
            buffers[0].copy_(torch_optimiser.state[param]["momentum_buffer"])
    return call


@generator("sgd_step")
def sgd_step(g):
    shape = g.shape()
    options = {"lr": 0.05, "momentum": [0.0, 0.9, 0.9, 0.8, 0.9][g.i % 5], "weight_decay": g.pick([0.0, 0.01])}
    options["nesterov"] = g.i % 5 == 2
    options["dampening"] = 0.2 if g.i % 5 == 3 else 0.0
    step = 1 if g.i % 4 == 1 else int(g.rng.integers(2, 50))
    ins = [g.randn(shape), g.randn(shape)]
    if options["momentum"]:
        ins.append(np.zeros(shape, np.float32) if step == 1 else g.randn(shape))
    defaults = {"momentum": 0.0, "weight_decay": 0.0, "nesterov": False, "dampening": 0.0}
    attrs = {k: v for k, v in {**options, "step": step}.items() if v != defaults.get(k)}
    return Spec(ins, optimiser(torch.optim.SGD, options, ["momentum_buffer"], step), attrs, grad=False,
                inplace=(0, 2) if options["momentum"] else (0,))


@generator("adam_step", "adamw_step")
def adam_step(g, name):
    shape, step = g.shape(), 1 if g.i % 4 == 0 else int(g.rng.integers(2, 300))
    kind, decay = (torch.optim.Adam, 0.0) if name == "adam_step" else (torch.optim.AdamW, 0.01)
    options = {"lr": g.pick([1e-3, 3e-4]), "betas": g.pick([(0.9, 0.999), (0.7, 0.95)]),
               "eps": g.pick([1e-8, 1e-6]), "weight_decay": g.pick([decay, 0.1])}
    ins = [g.randn(shape), g.away(shape), g.randn(shape, 0.1), g.uniform(shape, 0.01, 0.5)]
    if step == 1:
        ins[2] = ins[3] = np.zeros(shape, np.float32)
    attrs = {"lr": options["lr"], "beta1": options["betas"][0], "beta2": options["betas"][1],
             "eps": options["eps"], "step": step}
    if options["weight_decay"] != decay or g.flag():
        attrs["weight_decay"] = options["weight_decay"]
    return Spec(ins, optimiser(kind, options, ["exp_avg", "exp_avg_sq"], step), attrs, grad=False,
                inplace=(0, 2, 3))
