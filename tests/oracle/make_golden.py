#!/usr/bin/env python3
"""Writes tests/golden/ops.safetensors and ops.json: three small cases per op with PyTorch's answers.

Tensors: "<op>/<case>/in0" inputs, "/out0" outputs, "/gy0" the upstream gradient of the float output, "/grad0" gradients
(numbered like the inputs), "/written0" inputs after the call where the op writes them in place.
ops.json: {"torch", "tolerance", "cases": [{"op", "case", "attrs": {name: CLI text}, "inputs": n, "missing": [i],
"outputs": n, "gy": bool, "grads": [i], "written": [i]}]}. A missing optional input has no tensor.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from ops_cases import OPS, attr_text, draw

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES, LIMIT = 3, 2 * 1000 * 1000


def golden_cases(op):
    """The first three small cases whose answer does not hang on random numbers or on an open order."""
    cases, index = [], 0
    while len(cases) < CASES:
        case = draw(op, index, small=True)
        index += 1
        if case.spec.check == "values":
            cases.append(case)
    return cases


def tensors_of(case, key):
    found = {f"{key}/in{i}": a for i, a in enumerate(case.spec.ins) if a is not None}
    found |= {f"{key}/out{i}": a for i, a in enumerate(case.outs)}
    found |= {f"{key}/grad{i}": a for i, a in enumerate(case.grads) if a is not None}
    found |= {f"{key}/written{i}": a for i, a in case.written.items()}
    if case.gy is not None:
        found[f"{key}/gy0"] = case.gy
    # copy(): safetensors reads the buffer, so a view or a strided array would be written wrongly.
    return {name: np.array(a, order="C", copy=True) for name, a in found.items()}


def entry(case, number):
    ins = case.spec.ins
    return {"op": case.op, "case": str(number),
            "attrs": {k: attr_text(v) for k, v in case.spec.attrs.items()},
            "inputs": len(ins), "missing": [i for i, a in enumerate(ins) if a is None],
            "outputs": len(case.outs), "gy": case.gy is not None,
            "grads": [i for i, a in enumerate(case.grads) if a is not None],
            "written": sorted(case.written)}


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tensors, entries = {}, []
    for op in OPS:
        for number, case in enumerate(golden_cases(op)):
            tensors |= tensors_of(case, f"{op}/{number}")
            entries.append(entry(case, number))
    GOLDEN.mkdir(parents=True, exist_ok=True)
    save_file(tensors, GOLDEN / "ops.safetensors", metadata={"torch": torch.__version__})
    lines = ",\n".join(json.dumps(e) for e in entries)
    head = f'{{"torch": "{torch.__version__}", "tolerance": 1e-5, "cases": [\n'
    (GOLDEN / "ops.json").write_text(head + lines + "\n]}\n")
    size = sum(p.stat().st_size for p in GOLDEN.glob("ops.*"))
    (GOLDEN / "ops.safetensors").chmod(0o644)  # save_file makes it private
    print(f"{len(OPS)} ops, {len(entries)} cases, {len(tensors)} tensors, {size} bytes")
    return 0 if size <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
