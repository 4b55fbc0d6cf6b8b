#!/usr/bin/env python3
"""Number formats from the shell: codes in and out of .npy files, sums by quire, quantised nets, and what bad input is told."""
import json
import struct
import sys
import unittest
from pathlib import Path

import cli_test
from cli_test import npy


def codes(path):
    """dtype and integers of an .npy file of codes."""
    data = path.read_bytes()
    length = data[8] | data[9] << 8
    header = data[10:10 + length].decode()
    descr = header.split("'descr': '")[1].split("'")[0]
    kind = {"|u1": "B", "<u2": "H", "<u4": "I", "<f4": "f"}[descr]
    body = data[10 + length:]
    return descr, list(struct.unpack(f"<{len(body) // struct.calcsize(kind)}{kind}", body)), header


class Codes(cli_test.Cli):
    def cast(self, values, *more, shape=None, descr="<f4"):
        x = self.file("x.npy", npy(shape or [len(values)], values, descr))
        out = self.dir / "out"
        text = self.ok("op", "cast", "--in", x, "--out", out, *more)
        return (*codes(out / "out0.npy"), text)

    def test_cast_gives_the_words_of_the_standard(self):
        values = [1, -1, 0.5, 2, 5, 3.14159265, 0.1, 0.001, 100, 1e-20, 1e30, 4096.5]
        descr, words, _, text = self.cast(values, "--attr", "to=posit16")
        self.assertEqual(descr, "<u2")
        self.assertEqual(words, [0x4000, 0xC000, 0x3800, 0x4800, 0x5200, 0x4C91, 0x24CD, 0x0C0C, 0x6A40, 0x0001, 0x7FFF, 0x7800])
        self.assertIn("to_max 1 to_min 1", text)
        descr, words, _, _ = self.cast(values, "--attr", "to=posit8")
        self.assertEqual((descr, words[:4]), ("|u1", [0x40, 0xC0, 0x38, 0x48]))
        descr, words, _, _ = self.cast([464, 465, float("-inf"), float("nan")], "--attr", "to=fp8_e4m3", "saturate=false")
        self.assertEqual(words, [0x7E, 0x7F, 0xFF, 0x7F])
        descr, words, _, _ = self.cast([464, 465, float("-inf")], "--attr", "to=fp8_e4m3")
        self.assertEqual(words, [0x7E, 0x7E, 0xFE])

    def test_packed_rows_are_bytes(self):
        descr, words, header, _ = self.cast([0.5] * 66, "--attr", "to=mxfp4", shape=[2, 33])
        self.assertEqual((descr, len(words)), ("|u1", 68))
        self.assertIn("(2, 34)", header)
        self.ok("op", "cast", "--in", self.dir / "out/out0.npy", "--dtype", "mxfp4", "--attr", "to=f32", "--out", self.dir / "back")
        _, back, header = codes(self.dir / "back/out0.npy")
        self.assertIn("(2, 64)", header)
        self.assertEqual(back[:33], [0.5] * 33)

    def test_products_take_and_give_codes(self):
        self.cast([4096, 1, -4096], "--attr", "to=posit16", shape=[1, 3])
        a = self.file("a.npy", (self.dir / "out/out0.npy").read_bytes())
        self.cast([1, 0.5, 1], "--attr", "to=posit16", shape=[3, 1])
        b = self.file("b.npy", (self.dir / "out/out0.npy").read_bytes())
        for mode, word in (("certified", 0x3800), ("quire", 0x3800), ("per_op", 0)):
            text = self.ok("op", "matmul", "--in", a, b, "--dtype", "posit16", "--attr", f"accumulate={mode}", "--out", self.dir / "y")
            self.assertEqual(codes(self.dir / "y/out0.npy")[1], [word], mode)
            self.assertIn("matmul:posit", text)
        answer = json.loads(self.ok("op", "matmul", "--in", a, b, "--dtype", "posit16", "--attr", "accumulate=certified", "--out",
                                    self.dir / "y", "--json"))
        self.assertIn("to_quire", answer["rounding"])

    def test_special_values(self):
        nar = self.file("nar.npy", npy([2], [0x8000, 0x4000], "<u2"))
        self.ok("op", "add", "--in", nar, nar, "--dtype", "posit16", "--out", self.dir / "y")
        self.assertEqual(codes(self.dir / "y/out0.npy")[1], [0x8000, 0x4800])
        empty = self.file("empty.npy", npy([0, 3], [], "<f4"))
        self.ok("op", "cast", "--in", empty, "--attr", "to=posit16", "--out", self.dir / "y")
        self.assertEqual(codes(self.dir / "y/out0.npy")[1], [])

    def test_bad_input_gets_one_clear_error(self):
        x = self.file("x.npy", npy([2], [1, 2]))
        words = self.file("w.npy", npy([2], [1, 2], "<u2"))
        out = ["--out", self.dir / "y"]
        self.refused(["posit17", "posit16"], "op", "cast", "--in", x, "--attr", "to=posit17", *out)
        self.refused(["w.npy", "codes of a number format"], "op", "cast", "--in", words, "--attr", "to=f32", *out)
        self.refused(["w.npy", "'<u2'", "expected '|u1'", "posit8"], "op", "cast", "--in", words, "--dtype", "posit8", "--attr",
                     "to=f32", *out)
        self.refused(["--dtype: found f32"], "op", "cast", "--in", words, "--dtype", "f32", "--attr", "to=f32", *out)
        self.refused(["saturate", "posit16"], "op", "cast", "--in", x, "--attr", "to=posit16", "saturate=false", *out)
        self.refused(["rounding", "'up'", "nearest or stochastic"], "op", "cast", "--in", x, "--attr", "to=posit16", "rounding=up", *out)
        self.refused(["accumulate=quire", "posits"], "op", "matmul", "--in", x, x, "--attr", "accumulate=quire", *out)
        self.refused(["accumulate", "'kulisch'"], "op", "matmul", "--in", words, words, "--dtype", "posit16", "--attr",
                     "accumulate=kulisch", *out)
        bytes3 = self.file("b.npy", npy([1, 3], [1, 2, 3], "|u1"))
        self.refused(["b.npy", "found 3 bytes in a row of mxfp4", "multiple of 17"], "op", "cast", "--in", bytes3, "--dtype", "mxfp4",
                     "--attr", "to=f32", *out)
        nan = self.file("nan.npy", npy([1], [float("nan")]))
        self.refused(["found NaN"], "op", "cast", "--in", nan, "--attr", "to=fp4_e2m1", *out)


class Quantised(cli_test.Cli):
    NET = ["--net", "cnn", "--linear", "2", "--conv", "1"]

    def setUp(self):
        super().setUp()
        self.net = [*self.NET, "--data-dir", self.data]
        self.model = self.dir / "w.safetensors"
        self.ok("train", *self.net, "--epochs", "1", "--batch", "32", "--idle", "0", "--quiet", "--save", self.model)

    def test_every_way_in(self):
        for to in ("int8", "fp8_e4m3", "posit8", "mxfp4", "int4"):
            out = self.dir / f"{to}.safetensors"
            answer = json.loads(self.ok("quantize", *self.net, "--model", self.model, "--to", to, "--out", out, "--json"))
            self.assertLess(answer["after"]["weight_bytes"], 0.3 * answer["before"]["weight_bytes"], to)
            self.assertLess(out.stat().st_size, 0.35 * self.model.stat().st_size, to)
        self.ok("quantize", *self.net, "--model", self.model, "--to", "int8", "--qat", "1")
        text = self.ok("advise", *self.net, "--model", self.model, "--drop", "5", "--formats", "int8")
        self.assertIn("the search:", text)

    def test_training_precisions(self):
        for p in ("bf16", "fp8", "posit8_mixed", "int8_qat"):
            self.assertIn("test accuracy", self.ok("train", *self.net, "--precision", p, "--epochs", "1", "--batch", "32", "--idle", "0"))
        self.refused(["precision: found 'posit9'", "posit8_mixed"], "train", *self.net, "--precision", "posit9")
        self.refused(["--precision", "f64"], "train", *self.net, "--precision", "bf16", "--dtype", "f64")

    def test_refusals(self):
        q = ["quantize", *self.net, "--model", self.model]
        self.refused(["int9", "expected one of"], *q, "--to", "int9")
        self.refused(["no layer 'fc'"], *q, "--layers", "fc=int8")
        self.refused(["--layers: found 'conv1'", "NAME=FORMAT"], *q, "--layers", "conv1")
        self.refused(["observer: found 'max'", "percentile"], *q, "--calibrate", "max")
        self.refused(["--qat", "int8"], *q, "--to", "posit8", "--qat", "1")
        self.refused(["cannot open"], "quantize", *self.net, "--model", self.dir / "none")
        self.refused(["--drop"], "advise", *self.net, "--model", self.model, "--drop", "-1")


if __name__ == "__main__":
    cli_test.WATTLE = str(Path(sys.argv.pop(1)).resolve())
    unittest.main(verbosity=2)
