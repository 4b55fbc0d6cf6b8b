"""Elementwise ops, comparisons, where, and the shape ops, as cases (see case_core.py)."""
import numpy as np
import torch
import torch.nn.functional as F

from case_core import Spec, generator

BINARY = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div}
UNARY = {"neg": torch.neg, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "tanh": torch.tanh,
         "sigmoid": torch.sigmoid, "relu": torch.relu, "silu": F.silu, "abs": torch.abs}
COMPARE = {"eq": torch.eq, "ne": torch.ne, "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge}
TORCH_DTYPE = {"f32": torch.float32, "f64": torch.float64, "i64": torch.int64, "i32": torch.int32,
               "u8": torch.uint8, "bool": torch.bool}


@generator(*BINARY)
def binary(g, name):
    a, b = g.broadcast_pair()
    return Spec([g.randn(a), g.away(b) if name == "div" else g.randn(b)], BINARY[name])


@generator("pow")
def power(g):
    a, b = g.broadcast_pair()
    if g.i % 10 == 7:  # negative base, whole exponent: the exponent has no real gradient
        return Spec([g.away(a), g.grid(b, -3, 4)], torch.pow, grad=False)
    return Spec([g.uniform(a, 0.2, 3), g.uniform(b, -2, 3)], torch.pow)


@generator(*UNARY)
def unary(g, name):
    shape = g.shape() if g.i % 7 else []
    if name in ("log", "sqrt"):
        x = g.uniform(shape, 0.05, 9)
    elif name in ("relu", "abs") and g.i % 4 == 1:
        x = g.grid(shape)  # exact zeros: the subgradient is PyTorch's 0
    else:
        x = g.randn(shape, 2)
    return Spec([x], UNARY[name])


@generator("gelu")
def gelu(g):
    how = [None, "tanh", "none"][g.i % 3]
    return Spec([g.randn(g.shape(), 2)], lambda x: F.gelu(x, approximate=how or "none"),
                {"approximate": how} if how else {})


@generator("clamp")
def clamp(g):
    low, high = [(-0.5, 0.75), (None, 0.25), (-0.125, None), (-1.0, 1.0)][g.i % 4]
    x = g.grid(g.shape()) if g.i % 4 == 3 else g.randn(g.shape())  # grid: values on the bounds
    attrs = {k: v for k, v in (("min", low), ("max", high)) if v is not None or g.flag()}
    return Spec([x], lambda x: torch.clamp(x, low, high), attrs)


@generator(*COMPARE)
def compare(g, name):
    a, b = g.broadcast_pair()
    if g.i % 6 == 5:
        return Spec([g.integers(-3, 4, a), g.integers(-3, 4, b)], COMPARE[name], grad=False)
    return Spec([g.grid(a), g.grid(b)], COMPARE[name], grad=False)


@generator("where")
def where(g):
    a, b = g.broadcast_pair()
    full = list(np.broadcast_shapes(tuple(a), tuple(b)))
    cond = [1 if g.flag(0.3) else d for d in full]
    return Spec([g.rng.random(cond) < 0.5, g.randn(a), g.randn(b)], torch.where)


@generator("cast")
def cast(g):
    to = ["f64", "i64", "f32", "bool", "i32", "u8", "f32"][g.i % 7]
    shape, kind = g.shape(), g.i % 7
    if kind == 2:
        x = g.integers(-99, 99, shape)
    elif kind == 6:
        x = g.integers(0, 256, shape).astype(np.uint8)
    elif to == "bool":
        x = g.grid(shape)
    else:
        x = g.uniform(shape, 0, 255) if to == "u8" else g.randn(shape, 50)
    return Spec([x], lambda x: x.to(TORCH_DTYPE[to]), {"to": to}, grad=to == "f64")


@generator("dropout")
def dropout(g):
    """PyTorch's random numbers are its own, so what must hold for any generator is checked instead."""
    kind = g.i % 5
    p = [0.0, 0.5, 0.3, 1.0, 0.5][kind]
    training = kind != 1
    shape = g.shape() if g.i % 3 else [g.dim(20, 40), g.dim(40, 80)]
    attrs = {"p": p, "training": training, "seed": 17 + g.i, "offset": 0}
    fixed = not training or p in (0.0, 1.0)
    return Spec([g.away(shape)], lambda x: F.dropout(x, p, training), attrs,
                check="values" if fixed else "dropout")


@generator("reshape")
def reshape(g):
    shape = g.shape(2, 4)
    total = int(np.prod(shape))
    target = [[-1], [shape[-1], -1], [1, *shape], [total // shape[0], shape[0]], [*shape[:-2], -1]][g.i % 5]
    return Spec([g.randn(shape)], lambda x: x.reshape(target), {"shape": target})


@generator("transpose")
def transpose(g):
    shape = g.shape(2, 4)
    a, b = g.dimension(len(shape)), g.dimension(len(shape))
    return Spec([g.randn(shape)], lambda x: x.transpose(a, b), {"dim0": a, "dim1": b})


@generator("permute")
def permute(g):
    shape = g.shape(2, 4)
    order = [int(d) - (len(shape) if g.flag(0.3) else 0) for d in g.rng.permutation(len(shape))]
    return Spec([g.randn(shape)], lambda x: x.permute(order), {"dims": order})


@generator("slice")
def slice_(g):
    shape = g.shape(1, 4)
    dim = g.dimension(len(shape))
    shape[dim] = max(shape[dim], 5)
    start, end, step = [(1, 4, 1), (-4, -1, 1), (0, 1 << 40, 2), (2, None, 3), (None, -2, 1)][g.i % 5]
    attrs = {k: v for k, v in (("dim", dim), ("start", start), ("end", end), ("step", step))
             if not (k == "step" and v == 1 and g.flag())}
    return Spec([g.randn(shape)], lambda x: torch.ops.aten.slice(x, dim, start, end, step), attrs)


@generator("concat")
def concat(g):
    shape = g.shape(1, 4)
    dim = g.dimension(len(shape))
    parts = [list(shape) for _ in range(1 + (g.i + 1) % 4)]
    for part in parts:
        part[dim] = g.dim()
    return Spec([g.randn(p) for p in parts], lambda *xs: torch.cat(xs, dim), {"dim": dim})


@generator("stack")
def stack(g):
    shape = g.shape(1, 3)
    dim = g.dimension(len(shape) + 1)
    return Spec([g.randn(shape) for _ in range(1 + (g.i + 1) % 4)], lambda *xs: torch.stack(xs, dim),
                {"dim": dim})


@generator("pad")
def pad(g):
    shape = g.shape(1, 4)
    count = int(g.rng.integers(1, len(shape) + 1))
    amounts = [int(v) for v in g.rng.integers(0, 4, 2 * count)]
    if g.i % 8 == 6 and shape[-1] > 2:
        amounts[1] = -1  # a negative amount crops
    value = [None, 0.0, -1.5][g.i % 3]
    attrs = {"pad": amounts, **({"mode": "constant", "value": value} if value is not None else {})}
    return Spec([g.randn(shape)], lambda x: F.pad(x, amounts, "constant", value), attrs)


@generator("gather")
def gather(g):
    shape = g.shape(1, 4)
    dim = g.dimension(len(shape))
    index_shape = [int(g.rng.integers(1, d + 1)) for d in shape]
    index_shape[dim] = g.dim(1, 12)
    index = g.integers(0, shape[dim], index_shape)
    return Spec([g.randn(shape), index], lambda x, i: torch.gather(x, dim, i), {"dim": dim})


@generator("scatter_add")
def scatter_add(g):
    shape = g.shape(1, 4)
    dim = g.dimension(len(shape))
    index_shape = [int(g.rng.integers(1, d + 1)) for d in shape]
    index_shape[dim] = g.dim(1, 12)
    index = g.integers(0, shape[dim], index_shape)
    # PyTorch's backward wants src and index of one shape; a larger src is forward only.
    larger = g.i % 5 == 4
    src_shape = [d + int(g.rng.integers(0, 3)) for d in index_shape] if larger else index_shape
    return Spec([g.randn(shape), index, g.randn(src_shape)],
                lambda x, i, s: torch.scatter_add(x, dim, i, s), {"dim": dim}, grad=not larger)


@generator("index_select")
def index_select(g):
    shape = g.shape(1, 4)
    dim = g.dimension(len(shape))
    index = g.integers(0, shape[dim], [g.dim(1, 12)])  # repeats
    return Spec([g.randn(shape), index], lambda x, i: torch.index_select(x, dim, i), {"dim": dim})


@generator("one_hot")
def one_hot(g):
    classes = g.dim(1, 12)
    x = g.integers(0, classes, g.shape(1, 3))
    number = -1 if g.i % 4 == 3 else classes
    return Spec([x], lambda x: F.one_hot(x, number), {} if number < 0 else {"num_classes": number},
                grad=False)


@generator("topk")
def topk(g):
    shape = g.shape(1, 3)
    dim = -1 if g.i % 4 == 0 else g.dimension(len(shape))
    k, largest, ordered = int(g.rng.integers(1, shape[dim] + 1)), g.flag(0.7), g.i % 6 != 5
    attrs = {"k": k, **({} if g.i % 4 == 0 else {"dim": dim}), "largest": largest, "sorted": ordered}
    return Spec([g.distinct(shape)], lambda x: tuple(torch.topk(x, k, dim, largest, ordered)), attrs,
                grad=ordered, check="values" if ordered else "topk_unsorted")


@generator("sort")
def sort(g):
    shape = g.shape(1, 3)
    dim = -1 if g.i % 4 == 0 else g.dimension(len(shape))
    descending, stable = g.flag(), g.i % 2 == 1
    x = g.grid(shape) if stable else g.distinct(shape)  # ties have one right order only when stable
    attrs = {**({} if g.i % 4 == 0 else {"dim": dim}), "descending": descending, "stable": stable}
    return Spec([x], lambda x: tuple(torch.sort(x, dim=dim, descending=descending, stable=stable)), attrs)
