"""Cases for the op-by-op comparison with PyTorch: what a case is, how one is drawn, what PyTorch answers.

A generator (cases_*.py) is a function `g -> Spec` registered under the op's name; `g` draws shapes and values from a
seed made of (op, case number), so a case is the same on every machine. `draw(op, i)` calls PyTorch in f32 and in f64 on the same f32
inputs. A draw on which PyTorch's own f32 answer is further than REDRAW from its f64 answer (cancellation, no
information) is replaced by the next one.
"""
import zlib
from dataclasses import dataclass, field

import numpy as np
import torch

REDRAW = 2e-6
GENERATORS = {}


@dataclass
class Spec:
    """What a generator returns: inputs as the CLI sees them, attributes, and the PyTorch call."""

    ins: list                                    # numpy arrays; None = an optional input left out
    fn: object                                   # (*tensors) -> tensor or tuple of tensors
    attrs: dict = field(default_factory=dict)    # PyTorch's names; left out = the default
    grad: bool = True                            # ask for gradients
    nodiff: tuple = ()                           # float inputs that are not differentiable
    inplace: tuple = ()                          # inputs that fn overwrites
    check: str = "values"                        # values | topk_unsorted | dropout


@dataclass
class Case:
    op: str
    index: int
    spec: Spec
    outs: list          # PyTorch's f32 outputs, numpy
    gy: object          # upstream gradient of the one float output, or None
    grads: list         # per input: gradient or None
    written: dict       # input index -> contents after the call
    outs64: list
    grads64: list
    written64: dict
    redraws: int

    @property
    def name(self):
        return f"{self.op}/{self.index}"


class Draw:
    """Shapes and values of one case. `small` keeps golden tensors small."""

    def __init__(self, op, index, small, attempt):
        seed = [zlib.crc32(op.encode()), index, int(small), attempt]
        self.i, self.small, self.rng = index, small, np.random.default_rng(seed)

    def dim(self, low=1, high=9):
        """A size; one in six is 1 where allowed."""
        if low <= 1 and self.rng.random() < 1 / 6:
            return 1
        return int(self.rng.integers(low, (min(high, low + 3) if self.small else high) + 1))

    def shape(self, low=1, high=4, size=9):
        """1..4 dimensions; every fifth case larger and odd, so that vector tails are met."""
        rank = int(self.rng.integers(low, high + 1))
        shape = [self.dim(1, size) for _ in range(rank)]
        if not self.small and self.i % 5 == 4:
            shape[-1] = int(self.rng.choice([67, 129, 255]))
        return shape

    def randn(self, shape, scale=1.0):
        return np.asarray(self.rng.standard_normal(shape) * scale, np.float32)

    def uniform(self, shape, low, high):
        return np.asarray(self.rng.uniform(low, high, shape), np.float32)

    def away(self, shape, low=0.3, high=2.5):
        """Either sign, |x| in [low, high]: for divisors."""
        sign = np.where(self.rng.random(shape) < 0.5, -1, 1)
        return np.asarray(self.uniform(shape, low, high) * sign, np.float32)

    def grid(self, shape, low=-2, high=3):
        """Small integers as f32: many ties and exact zeros."""
        return np.asarray(self.rng.integers(low, high, shape), np.float32)

    def distinct(self, shape):
        """No two values equal, well apart: for sort, topk, max over one dim."""
        n = int(np.prod(shape))
        return np.asarray((self.rng.permutation(n) - n / 2) * 0.37 + 0.11, np.float32).reshape(shape)

    def integers(self, low, high, shape):
        return np.asarray(self.rng.integers(low, high, shape), np.int64)

    def flag(self, p=0.5):
        return bool(self.rng.random() < p)

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def dimension(self, rank):
        """A dimension index, negative in half of the draws."""
        dim = int(self.rng.integers(rank))
        return dim - rank if self.flag() else dim

    def dims(self, rank, count=None):
        """Several different dimensions, some written negative."""
        count = count or int(self.rng.integers(1, rank + 1))
        chosen = sorted(int(d) for d in self.rng.choice(rank, count, replace=False))
        return [d - rank if self.flag(0.3) else d for d in chosen]

    def broadcast_pair(self):
        """Two shapes that broadcast: equal, size-1 stretched, missing leading dimensions, scalars."""
        full = self.shape()
        kind = self.i % 5
        if kind == 0:
            return full, list(full)
        if kind == 1:
            return full, [1 if self.flag() else d for d in full]
        if kind == 2:
            return full[int(self.rng.integers(0, len(full))):], full
        if kind == 3:
            mask = [self.flag() for _ in full]
            return [1 if m else d for m, d in zip(mask, full)], [d if m else 1 for m, d in zip(mask, full)]
        return full, []


def generator(*names):
    def register(function):
        for name in names:
            GENERATORS[name] = (lambda g, n=name: function(g, n)) if len(names) > 1 else function
        return function
    return register


def attr_text(value):
    """An attribute as the CLI writes it: k=1,2  true/false  none."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(attr_text(v) for v in value)
    return repr(value) if isinstance(value, float) else str(value)


def evaluate(spec, dtype, gy):
    """PyTorch's answer in `dtype`: outputs, gy (drawn when None is given), gradients, written inputs."""
    tensors, leaves = [], []
    for i, array in enumerate(spec.ins):
        if array is None:
            tensors.append(None)
            continue
        t = torch.from_numpy(array.copy())
        t = t.to(dtype) if t.dtype == torch.float32 else t
        if spec.grad and t.is_floating_point() and i not in spec.nodiff and i not in spec.inplace:
            t.requires_grad_()
            leaves.append(i)
        tensors.append(t)
    outs = spec.fn(*tensors)
    outs = [] if outs is None else list(outs) if isinstance(outs, (tuple, list)) else [outs]
    grads = [None] * len(spec.ins)
    tracked = [o for o in outs if o.requires_grad]
    if len(tracked) > 1:
        raise ValueError("a case has one float output")
    if tracked and leaves:
        out = tracked[0]
        upstream = torch.from_numpy(gy(tuple(out.shape))).to(out.dtype)
        found = torch.autograd.grad(out, [tensors[i] for i in leaves], upstream, allow_unused=True)
        for i, grad in zip(leaves, found):
            grads[i] = (torch.zeros_like(tensors[i]) if grad is None else grad).detach().numpy()
    arrays = [o.detach().contiguous().numpy() for o in outs]
    return arrays, grads, {i: tensors[i].detach().numpy() for i in spec.inplace}


def relative_error(got, expected, scale=1.0):
    """||got - expected|| / ||expected||; integers and bools must be equal (0 or inf).

    An expected tensor of exact zeros has no norm: then the error is relative to `scale`.
    """
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind in "biu":
        return 0.0 if np.array_equal(got, expected) else float("inf")
    a, b = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return float("inf")
    size, distance = np.linalg.norm(b[finite]), np.linalg.norm(a[finite] - b[finite])
    return 0.0 if distance == 0 else float(distance / (size if size > 0 else max(scale, 1e-30)))


def own_error(case):
    """How far PyTorch's f32 is from its f64 on this case."""
    pairs = list(zip(case.outs, case.outs64)) + [
        (a, b) for a, b in zip(case.grads, case.grads64) if a is not None]
    pairs += [(case.written[i], case.written64[i]) for i in case.written]
    return max((relative_error(a, b) for a, b in pairs), default=0.0)


def draw(op, index, small=False):
    """Case `index` of `op`, the same on every call."""
    for attempt in range(40):
        g = Draw(op, index, small, attempt)
        spec = GENERATORS[op](g)
        cache = {}

        def gy(shape):
            if "gy" not in cache:
                cache["gy"] = g.randn(shape)
            return cache["gy"]

        try:
            f32 = evaluate(spec, torch.float32, gy)
            f64 = evaluate(spec, torch.float64, gy)
        except Exception as error:
            raise RuntimeError(f"{op} case {index}: attrs {spec.attrs}, shapes "
                               f"{[None if a is None else a.shape for a in spec.ins]}: {error}") from error
        case = Case(op, index, spec, f32[0], cache.get("gy"), f32[1], f32[2], *f64, attempt)
        if spec.check != "values" or own_error(case) <= REDRAW:
            return case
    raise RuntimeError(f"{op} case {index}: 40 ill-conditioned draws, the generator needs a look")
