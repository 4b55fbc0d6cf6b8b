#!/usr/bin/env python3
"""Number formats against two peers: every code of ml-dtypes' types there and back, a million numbers into them,
and the posits of softposit - legacy es 0 and 1 - operation by operation. Prints a line for each comparison."""
import os
import random
import subprocess
import sys
import tempfile

import ml_dtypes
import numpy as np
import softposit

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WATTLE = os.environ.get("WATTLE_BINARY", os.path.join(ROOT, "build", "release", "wattle"))
FLOATS = [("bf16", ml_dtypes.bfloat16, np.uint16), ("fp16", np.float16, np.uint16), ("fp8_e4m3", ml_dtypes.float8_e4m3fn, np.uint8),
          ("fp8_e5m2", ml_dtypes.float8_e5m2, np.uint8), ("e8m0", ml_dtypes.float8_e8m0fnu, np.uint8)]
PACKED = [("fp6_e2m3", ml_dtypes.float6_e2m3fn, 6), ("fp6_e3m2", ml_dtypes.float6_e3m2fn, 6), ("fp4_e2m1", ml_dtypes.float4_e2m1fn, 4)]
failures = 0


def op(name, inputs, attrs, dtype=None):
    with tempfile.TemporaryDirectory() as d:
        paths = []
        for i, a in enumerate(inputs):
            paths.append(os.path.join(d, f"in{i}.npy"))
            np.save(paths[-1], a)
        command = [WATTLE, "op", name, "--in", *paths, "--out", d] + [x for k, v in attrs.items() for x in ("--attr", f"{k}={v}")]
        if dtype:
            command += ["--dtype", dtype]
        r = subprocess.run(command, capture_output=True, text=True)
        if r.returncode:
            raise SystemExit(f"{' '.join(command)}\n{r.stderr}")
        return np.load(os.path.join(d, "out0.npy"))


def report(what, wrong, of, note=""):
    global failures
    failures += wrong > 0
    print(f"{what:58s} {of:9d} cases, {wrong} differences{note}", flush=True)


def same(a, b):
    return (a == b) | (np.isnan(a) & np.isnan(b))


def numbers(n):
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 1 << 32, n, dtype=np.uint32).view(np.float32)
    with np.errstate(over="ignore"):
        x = np.concatenate([bits, rng.standard_normal(n).astype(np.float32), (rng.integers(-512, 512, n) * 2.0 ** rng.integers(-30, 12, n)).astype(np.float32)])
    return x


def compare_floats():
    x = numbers(1 << 19)
    for name, dtype, word in FLOATS:
        codes = np.arange(1 << (8 * np.dtype(word).itemsize), dtype=np.uint32).astype(word)
        ours = op("cast", [codes], {"to": "f32"}, name)
        theirs = codes.view(dtype).astype(np.float32)
        report(f"{name}: every code to f32", int((~same(ours, theirs)).sum()), codes.size)
        y = x if name != "e8m0" else np.abs(x[np.isfinite(x) & (x != 0)])
        ours = op("cast", [y], {"to": name, "saturate": "false"})
        with np.errstate(all="ignore"):
            theirs = y.astype(dtype).view(word)
        nan = np.isnan(codes.view(dtype).astype(np.float32))
        wrong = (ours != theirs) & ~(nan[ours] & nan[theirs])
        note = ""
        if name == "e8m0":
            # Below 2^-126 ml-dtypes takes the f32 subnormals its own way: 1.2 * 2^-127 becomes 2^-126 there, and what is
            # below 2^-127 does not become NaN.
            wrong &= y >= 2.0**-126
            note = ", numbers below 2^-126 left out"
        report(f"{name}: numbers from f32, not saturating", int(wrong.sum()), y.size, note)
    for name, dtype, bits in PACKED:
        codes = np.arange(1 << bits, dtype=np.uint8)
        theirs = codes.view(dtype).astype(np.float32)
        packed = np.packbits(np.unpackbits(codes[:, None], axis=1, bitorder="little")[:, :bits].ravel(), bitorder="little")
        ours = op("cast", [packed], {"to": "f32"}, name)[: codes.size]
        report(f"{name}: every code to f32", int((~same(ours, theirs)).sum()), codes.size)
        y = x[np.isfinite(x)]
        ours = op("cast", [op("cast", [y], {"to": name})], {"to": "f32"}, name)[: y.size]
        report(f"{name}: numbers from f32", int((~same(ours, y.astype(dtype).astype(np.float32))).sum()), y.size)


def word_of(p, bits):
    return int(p.v.v) & ((1 << bits) - 1) if hasattr(p, "v") else int(p)


def compare_posits():
    for name, cls, bits, word in [("posit8_es0", softposit.posit8, 8, np.uint8), ("posit16_es1", softposit.posit16, 16, np.uint16)]:
        def make(code):
            p = cls(0)
            p.fromBits(int(code))
            return p

        codes = np.arange(1 << bits, dtype=np.uint32).astype(word)
        ours = op("cast", [codes], {"to": "f64"}, name)
        theirs = np.array([np.nan if c == 1 << (bits - 1) else float(make(c)) for c in codes])
        report(f"{name}: every code to f64", int((~same(ours, theirs)).sum()), codes.size)
        if bits == 8:
            a, b = np.repeat(codes, 256), np.tile(codes, 256)
        else:
            rng = random.Random(3)
            a, b = (np.array([rng.randrange(1 << bits) for _ in range(100000)], dtype=word) for _ in range(2))
        nar = 1 << (bits - 1)
        for kind, run in [("add", lambda p, q: p + q), ("sub", lambda p, q: p - q), ("mul", lambda p, q: p * q), ("div", lambda p, q: p / q)]:
            ours = op(kind, [a, b], {}, name)
            keep = (a != nar) & (b != nar) & ((b != 0) | (kind != "div"))
            theirs = [word_of(run(make(p), make(q)), bits) for p, q in zip(a[keep], b[keep])]
            report(f"{name}: {kind}", int((ours[keep] != np.array(theirs, dtype=word)).sum()), int(keep.sum()))


if __name__ == "__main__":
    compare_floats()
    compare_posits()
    sys.exit(1 if failures else 0)
