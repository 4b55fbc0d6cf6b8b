#!/usr/bin/env python3
"""Write a few small valid files per reader, from which the fuzzers start.

usage: make_corpus.py OUT_DIR
"""
import gzip
import json
import pathlib
import struct
import sys


def npy(descr, order, shape, data, major=1):
    text = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" % (descr, order, shape)
    text += " " * (-(len(text) + 11) % 64) + "\n"
    length = struct.pack("<H" if major == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([major, 0]) + length + text.encode() + data


def safetensors(tensors, metadata=None):
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


IMAGES = struct.pack(">IIII", 0x803, 2, 3, 3) + bytes(range(18))
LABELS = struct.pack(">II", 0x801, 4) + bytes([0, 9, 3, 1])
FILES = {
    "npy": [
        npy("<f4", "False", "(2, 3)", bytes(24)),
        npy("<i8", "True", "(2, 2)", bytes(range(32))),
        npy("|b1", "False", "(3,)", b"\1\0\1"),
        npy("|u1", "False", "()", b"\7", 2),
        npy(">f8", "False", "(1,)", bytes(8)),
    ],
    "safetensors": [
        safetensors({}),
        safetensors({"a": ("F32", [2, 1], bytes(8)), "b": ("BOOL", [], b"\1")}, {"step": "3"}),
        safetensors({"w": ("I64", [0, 4], b""), "x": ("U8", [3], b"abc"),
                     "y": ("F64", [1], bytes(8)), "z": ("I32", [1], bytes(4))}),
    ],
    "events": [bytes([7, 33, 0x85, 0x12, 0x34]), bytes([1, 2, 0, 0, 9, 0, 240, 0, 0, 0, 3, 3, 128, 0, 1, 4, 4, 0, 9, 9])],
    "idx": [IMAGES, LABELS, gzip.compress(IMAGES), gzip.compress(LABELS)],
    "calibration": [b'{"format":"wattle calibration 1","host":{"cpu":"X","governor":"g","threads":2,"meter":"m"},'
                    b'"date":"d","columns":["seconds","bytes","operations f32"],"coefficients":[9,2e-10,8e-11],'
                    b'"covariance":[1,0,0,0,1,0,0,0,1],"residual_rel_sd":0.02,"condition":3,"loo_mape":0.01,'
                    b'"coldest_c":null,"hottest_c":50}'],
    "samples": [b"order,round,variant,seed,start_s,temperature_c,joules,joules_sd,joules_kind,joules_source,seconds,value.x\n",
                b"order,round,variant,seed,start_s,temperature_c,joules,joules_sd,joules_kind,joules_source,seconds\n"
                b'0,0,a,1,1.5,,3.000001,0.1,measured,"x,y",0.25\n'],
    "forecast": [b"time,g_per_kwh\n00:00,300\n01:00, 250.5\r\n", b"g\n1\n2\n3\n"],
    "cifar10": [bytes([3]) + bytes(3072), (bytes([9]) + bytes(3072)) * 2, bytes([10]) + bytes(3072)],
}


def main():
    for reader, files in FILES.items():
        folder = pathlib.Path(sys.argv[1]) / reader
        folder.mkdir(parents=True, exist_ok=True)
        for i, data in enumerate(files):
            (folder / f"seed{i}").write_bytes(data)


if __name__ == "__main__":
    main()
