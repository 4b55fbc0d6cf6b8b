#!/usr/bin/env python3
"""The command line from outside: what it prints, writes and refuses. cli_runs_test.py: trainings and studies.

    python3 cli_test.py PATH_OF_WATTLE [unittest arguments]
"""
import gzip
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

WATTLE = ""
TRAIN_ROWS, TEST_ROWS = 64, 20
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SMALL = ["--net", "cnn", "--linear", "1", "--conv", "1", "--batch", "16"]


def images(n, seed=1):
    return struct.pack(">IIII", 0x803, n, 28, 28) + random.Random(seed).randbytes(n * 784)


def labels(n):
    return struct.pack(">II", 0x801, n) + bytes(i % 10 for i in range(n))


def npy(shape, values, descr="<f4"):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    code = {"<f4": "f", "<f8": "d", "<i8": "q", "|u1": "B", "<u2": "H", "<u4": "I", "|b1": "?"}[descr]
    return (b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
            + struct.pack(f"<{len(values)}{code}", *values))


def read_npy(path):
    """(shape, values) of a version 1.0 file."""
    data = Path(path).read_bytes()
    end = 10 + struct.unpack("<H", data[8:10])[0]
    header = eval(data[10:end], {"__builtins__": {}})
    code = {"<f4": "f", "<f8": "d", "<i8": "q", "|u1": "B", "|b1": "?"}[header["descr"]]
    return header["shape"], [x for x, in struct.iter_unpack("<" + code, data[end:])]


def safetensors(header, data):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return struct.pack("<Q", len(text)) + text + data


def entry(begin, end, shape=None):
    return {"dtype": "F32", "shape": shape or [(end - begin) // 4], "data_offsets": [begin, end]}


# No test reads the meters of the machine that it happens to run on, or a calibration of its user.
for _name in ("WATTLE_METER_ROOT", "WATTLE_NVML_LIB", "WATTLE_CALIBRATION"):
    os.environ[_name] = "/nonexistent"
for _name in ("WATTLE_METER_COMMAND", "WATTLE_METER_FILE", "WATTLE_ALLOW_MSR"):
    os.environ.pop(_name, None)


class Cli(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="wattle-cli-"))
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.data = self.dir / "data"
        self.data.mkdir()
        contents = (images(TRAIN_ROWS), labels(TRAIN_ROWS), images(TEST_ROWS, 2), labels(TEST_ROWS))
        for name, content in zip(NAMES, contents):
            (self.data / name).write_bytes(content)

    def command(self, *args):
        return [WATTLE, *map(str, args)]

    def run_cli(self, *args, env=None, **more):
        return subprocess.run(self.command(*args), capture_output=True, text=True, timeout=120,
                              env={**os.environ, **(env or {})}, **more)

    def ok(self, *args, **more):
        r = self.run_cli(*args, **more)
        self.assertEqual(r.returncode, 0, f"{args}\n{r.stdout}{r.stderr}")
        return r.stdout

    def refused(self, parts, *args, code=1, **more):
        """The command fails with `code` and one message that holds all `parts`."""
        r = self.run_cli(*args, **more)
        self.assertEqual(r.returncode, code, f"{args}\n{r.stdout}{r.stderr}")
        self.assertTrue(code != 1 or r.stderr.startswith("wattle: "), r.stderr)
        self.assertNotIn("internal error", r.stderr)
        for part in [parts] if isinstance(parts, str) else parts:
            self.assertIn(part, r.stderr, args)

    def file(self, name, content):
        path = self.dir / name
        path.write_bytes(content)
        return path


class BadData(Cli):
    CASES = [
        (0, lambda b: b[:-100], ["truncated", "expected 50176", "[64, 28, 28]"]),
        (0, lambda b: b[:3], ["truncated", "found 3 bytes"]),
        (0, lambda b: b[:9], ["truncated", "header"]),
        (0, lambda b: b"", ["truncated", "found 0 bytes"]),
        (0, lambda b: b + b"x", ["oversized", "found 50177", "expected 50176"]),
        (0, lambda b: b"\x00\x00\x0d\x03" + b[4:], ["magic number 00 00 0d 03", "expected 00 00 08 03"]),
        (0, lambda b: labels(TRAIN_ROWS), ["magic number 00 00 08 01", "expected 00 00 08 03"]),
        (0, lambda b: images(63), ["64 labels", "expected 63"]),
        (1, lambda b: b[:11] + b"\x0b" + b[12:], ["label 11 in row 3", "0 to 9"]),
        (1, lambda b: b"<!DOCTYPE html>", ["magic number 3c 21 44 4f", "no IDX file"]),
        (2, lambda b: struct.pack(">IIII", 0x803, 0, 28, 28), ["[0, 28, 28]", "no empty sizes"]),
        (3, lambda b: b[:8] + b"\xff" * TEST_ROWS, ["label 255 in row 0"]),
    ]
    PACKED = [
        (lambda b: b"<html>404</html>", ["found 3c 68 74 6d", "expected gzip data (1f 8b)"]),
        (lambda b: gzip.compress(b)[:-12], ["truncated"]),
        (lambda b: gzip.compress(b) + b"more", [".gz: "]),
        (lambda b: gzip.compress(b)[:40] + b"\0" * 40 + gzip.compress(b)[80:], [".gz: "]),
        (lambda b: gzip.compress(b + b"xy"), ["oversized"]),
    ]

    def check_refused(self, name, parts):
        for command in (["data", "fashion-mnist"], ["train", *SMALL]):
            self.refused([name, *parts], *command, "--data-dir", self.data)

    def test_idx_files(self):
        for number, damage, parts in self.CASES:
            path = self.data / NAMES[number]
            sound = path.read_bytes()
            path.write_bytes(damage(sound))
            self.check_refused(NAMES[number], parts)
            path.write_bytes(sound)
        self.ok("data", "fashion-mnist", "--data-dir", self.data)

    def test_gzip_files(self):
        path, sound = self.data / NAMES[0], (self.data / NAMES[0]).read_bytes()
        path.unlink()
        packed = self.data / (NAMES[0] + ".gz")
        for damage, parts in self.PACKED:
            packed.write_bytes(damage(sound))
            self.check_refused(packed.name, parts)
        packed.write_bytes(gzip.compress(sound))
        self.assertIn("64 images of 1 x 28 x 28", self.ok("data", "fashion-mnist", "--data-dir", self.data))

    def test_missing_and_unknown(self):
        (self.data / NAMES[3]).unlink()
        self.check_refused(NAMES[3], ["is missing beside the other files"])
        self.refused(["not found in", str(self.dir / "none")], "train", "--data-dir", self.dir / "none")
        self.refused(["'mnist'", "fashion-mnist or cifar10"], "data", "mnist", "--data-dir", self.data)
        (self.data / NAMES[3]).write_bytes(labels(TEST_ROWS))
        self.ok("train", *SMALL, "--epochs", 1, env={"WATTLE_DATA": str(self.data)})

    def test_cifar_records(self):
        record = bytes([3]) + bytes(3072)
        for i in range(1, 6):
            (self.data / f"data_batch_{i}.bin").write_bytes(record * 4)
        (self.data / "test_batch.bin").write_bytes(record * 3 + record[:-1])
        self.refused(["test_batch.bin"], "data", "cifar10", "--data-dir", self.data)
        (self.data / "test_batch.bin").write_bytes(record + b"\x0a" + record[1:])
        self.refused(["test_batch.bin", "label 10"], "data", "cifar10", "--data-dir", self.data)


class BadRequests(Cli):
    def test_rows_and_other_numbers(self):
        data = ["--data-dir", self.data]
        self.refused("--rows: found 0", "study", "layers", *data, "--rows", 0, "--out", self.dir / "o")
        self.refused("--rows: found -7", "study", "layers", *data, "--rows", -7, "--out", self.dir / "o")
        self.refused("--rows: found 0", "train", *data, "--rows", 0)
        self.refused("--rows: found -7", "train", *data, "--rows", -7)
        self.refused(["n = 9", "10 (the number of classes) to 64"], "train", *data, "--rows", 9)
        self.refused(["n = 65", "10 (the number of classes) to 64"], "train", *data, "--rows", 65)
        self.refused("--epochs: found 0", "train", *data, "--epochs", 0)
        self.refused("--batch: found 0", "train", *data, "--batch", 0)
        self.refused("--batch: found -3", "cost", "--batch", -3)
        self.refused("--lr: found 0", "train", *data, "--lr", 0)
        self.refused(["'lion'", "adamw"], "train", *data, "--optimizer", "lion")
        self.refused(["--conv: found 5", "28 x 28"], "cost", "--conv", 5)
        self.refused(["'mlp'", "densepoly"], "cost", "--net", "mlp")
        self.refused(["--nets", "'cnn9'"], "study", "layers", *data, "--nets", "cnn9", "--out", self.dir / "o")
        self.refused("--threads", "cost", "--threads", 0, code=2)
        self.refused("--colour", "cost", "--colour", "red", code=2)
        self.refused("expected one of", code=2)
        self.assertIn("study", self.ok("--help"))

    def test_unwritable_places(self):
        below = self.file("file", b"x") / "out"
        data = ["--data-dir", self.data]
        self.refused(["file/out", "Not a directory"], "study", "layers", *data, "--nets", "densepoly1", "--out", below)
        self.refused(["file/out", "Not a directory"], "train", *SMALL, *data, "--checkpoint", below)
        self.refused(["file/out", "Not a directory"], "train", *SMALL, *data, "--log", below)
        self.refused(["file/out", "Not a directory"], "train", *SMALL, *data, "--save", below)
        a = self.file("a.npy", npy([2], [1, 2]))
        self.refused(["file/out", "Not a directory"], "op", "relu", "--in", a, "--out", below)

    def test_safetensors_as_initial_weights(self):
        two = {"a": entry(0, 8), "b": entry(4, 12)}
        cases = [
            (safetensors(two, bytes(12)), ["'b' starts at 4 and overlaps 'a'"]),
            (safetensors({"a": entry(0, 16)}, bytes(12)), ["'a'", "[0, 16]", "12 bytes of data"]),
            (safetensors({"a": entry(8, 4, [1])}, bytes(12)), ["'a'", "[8, 4]"]),
            (safetensors({"a": entry(-4, 4, [2])}, bytes(12)), ["'a'"]),
            (safetensors({"a": entry(4, 12)}, bytes(12)), ["a hole in the data"]),
            (safetensors({"a": entry(0, 8, [3])}, bytes(8)), ["'a'", "8 bytes, expected 12"]),
            (safetensors({"a": entry(0, 8)}, bytes(9)), ["oversized", "found 9", "expected 8"]),
            (safetensors(b'{"a": ', b""), ["not JSON"]),
            (safetensors(b'{"a": {}, "a": {}}', b""), ["'a' stands there twice"]),
            (struct.pack("<Q", 1 << 60) + b"{}", ["header"]),
            (b"\x02\0\0", ["truncated"]),
            (safetensors({"a": {**entry(0, 8), "dtype": "F8"}}, bytes(8)), ["F8", "F32"]),
            (safetensors({"conv1.weight": entry(0, 8)}, bytes(8)),
             ["conv1.weight: found f32 [2], expected f32 [3, 1, 3, 3]", "bn1.bias (f32 [3]) is missing"]),
        ]
        for i, (content, parts) in enumerate(cases):
            path = self.file(f"w{i}.safetensors", content)
            self.refused([path.name, *parts], "train", *SMALL, "--data-dir", self.data, "--init", path)
        self.refused(["nowhere", "No such file"], "train", *SMALL, "--data-dir", self.data, "--init", "nowhere")

    def test_ops_attributes_kernels_and_shapes(self):
        arrays = {"a": ([2, 3], "<f4"), "b": ([4, 5], "<f4"), "v": ([3], "<f4"), "x": ([1, 2, 4, 4], "<f4"),
                  "w": ([3, 1, 3, 3], "<f4"), "i": ([2], "<i8")}
        for name, (shape, descr) in arrays.items():
            count = 1
            for d in shape:
                count *= d
            values = [9, -1] if name == "i" else range(count)
            self.file(f"{name}.npy", npy(shape, values, descr))
        cases = [
            ("rellu a", ["'rellu' does not exist", "did you mean relu?"]),
            ("relu a attr alpha=1", ["relu: attribute 'alpha' does not exist"]),
            ("softmax a attr dim", ["--attr dim", "name=value"]),
            ("softmax a attr dim=x", ["softmax: attribute dim: found 'x', expected an integer"]),
            ("softmax a attr dim=5", ["softmax: dim 5 found", "[-2, 1]"]),
            ("relu a kernel fpga", ["relu: has no kernel called fpga"]),
            ("relu a b", ["relu: 2 operands found, expected 1"]),
            ("add a", ["add: 1 operands found, expected 2"]),
            ("add a b", ["add: shapes [2, 3] and [4, 5]", "2 and 4"]),
            ("pow a i", ["pow", "f32 and i64"]),
            ("where a a a", ["where", "expected bool"]),
            ("matmul a b", ["matmul: inner sizes differ", "3 and 4"]),
            ("linear a b", ["linear", "[2, 3]", "[4, 5]", "3 and 5"]),
            ("conv2d x w", ["conv2d", "2 channels", "takes 1"]),
            ("max_pool2d a", ["max_pool2d", "[2, 3]", "[N, C, H, W]"]),
            ("batch_norm a b v", ["batch_norm: running_mean is [4, 5], expected [3]"]),
            ("layer_norm a attr normalized_shape=2", ["layer_norm: normalized_shape [2]", "f32 [2, 3]"]),
            ("rms_norm a attr normalized_shape=4", ["rms_norm: normalized_shape [4]"]),
            ("cross_entropy a i", ["cross_entropy: target 9", "[0, 2]"]),
            ("mse_loss a b", ["mse_loss", "[2, 3]", "[4, 5]"]),
            ("embedding i a", ["embedding: index 9", "[0, 2)"]),
            ("index_select a i", ["index_select: index 9", "[0, 2)"]),
            ("gather a i", ["gather", "1 dims", "2"]),
            ("scatter_add a i a", ["scatter_add", "1 dims"]),
            ("one_hot i", ["one_hot: index -1"]),
            ("topk a attr k=9", ["topk: k 9", "3"]),
            ("sort a attr dim=3", ["sort: dim 3"]),
            ("sum a attr dim=4", ["sum: dim 4"]),
            ("concat a b", ["concat", "[2, 3]", "[4, 5]", "3 and 5"]),
            ("stack a b", ["stack", "[2, 3]", "[4, 5]"]),
            ("reshape a attr shape=4", ["reshape", "6 elements", "[4]"]),
            ("expand a attr shape=3,3", ["expand", "size 2 cannot become 3"]),
            ("permute a attr dims=0,0", ["permute: dim 0 appears twice"]),
            ("transpose a attr dim1=4", ["transpose: dim 4"]),
            ("slice a attr step=0", ["slice: step 0"]),
            ("pad a attr pad=1", ["pad", "[1]", "2 pairs"]),
            ("sgd_step a b", ["sgd_step", "[4, 5]", "[2, 3]"]),
            ("eq a a grad a", ["eq: has no gradient"]),
            ("relu a grad b", ["b.npy", "found f32 [4, 5], expected f32 [2, 3]"]),
            ("relu nowhere", ["nowhere.npy", "No such file"]),
        ]
        lines, options = [], {"attr", "kernel", "grad"}
        for case, _ in cases:  # one process for all: a request that fails stops no other
            words = case.split()
            cut = next((i for i, w in enumerate(words) if w in options), len(words))
            request = {"op": words[0], "in": [f"{self.dir}/{w}.npy" for w in words[1:cut]], "out": str(self.dir / "o")}
            if words[cut:cut + 1] == ["grad"]:
                request["grad"] = [f"{self.dir}/{words[cut + 1]}.npy"]
            elif words[cut:cut + 1] == ["kernel"]:
                request["kernel"] = words[cut + 1]
            elif cut < len(words) and "=" in words[cut + 1]:
                request["attr"] = dict(w.split("=") for w in words[cut + 1:])
            elif cut < len(words):
                self.refused(cases[len(lines)][1], "op", words[0], "--in", self.dir / "a.npy", "--attr", words[cut + 1],
                             "--out", self.dir / "o")
            lines.append(json.dumps(request))
        batch = self.file("batch", "\n".join(lines).encode())
        answers = [json.loads(line) for line in self.ok("op", "--batch", batch).splitlines()]
        self.assertEqual(len(answers), len(cases))
        for (case, parts), answer in zip(cases, answers):
            if case != "softmax a attr dim":
                for part in parts:
                    self.assertIn(part, answer.get("error", f"no error: {answer}"), case)
        self.refused("matmul: inner sizes differ", "op", "matmul", "--in", self.dir / "a.npy", self.dir / "b.npy",
                     "--out", self.dir / "o")
        self.assertIn("line 1", json.loads(self.ok("op", "--batch", self.file("bad", b"{")))["error"])


class Ops(Cli):
    def op(self, name, inputs, *more):
        paths = [self.file(f"in{i}.npy", npy(*a)) for i, a in enumerate(inputs)]
        out = self.dir / "out"
        shutil.rmtree(out, True)
        answer = json.loads(self.ok("op", name, "--in", *paths, "--out", out, "--json", *more))
        return answer, {p.stem: read_npy(p) for p in out.iterdir()}

    def test_round_trip_with_gradients(self):
        a, b, g = [1, 2, 3, 4, 5, 6], [1, 0, -1, 2, 3, 1], [1, -1, 2, 0.5]
        grad = self.file("gy.npy", npy([2, 2], g, "<f8"))
        answer, files = self.op("matmul", [([2, 3], a, "<f8"), ([3, 2], b, "<f8")], "--grad", grad)

        def product(x, y, n, k, m):
            return [sum(x[i * k + t] * y[t * m + j] for t in range(k)) for i in range(n) for j in range(m)]

        self.assertEqual(files["out0"], ((2, 2), product(a, b, 2, 3, 2)))
        self.assertEqual(files["grad0"], ((2, 3), product(g, [b[j * 2 + i] for i in range(2) for j in range(3)], 2, 2, 3)))
        self.assertEqual(files["grad1"], ((3, 2), product([a[j * 3 + i] for i in range(3) for j in range(2)], g, 3, 2, 2)))
        self.assertEqual(answer["cost"]["mac"], 12)
        self.assertEqual(answer["cost"]["flops"], 24)
        self.assertEqual(answer["cost"]["bytes_read"], 96)
        self.assertEqual(answer["cost"]["bytes_written"], 32)
        self.assertEqual(answer["joules"]["kind"], "modelled_table")

    def test_attributes_kernels_and_several_results(self):
        x = ([2, 3], [3, -1, 2, 0, 7, 5])
        _, files = self.op("sum", [x], "--attr", "dim=1", "keepdim=true")
        self.assertEqual(files, {"out0": ((2, 1), [4, 12])})
        _, files = self.op("topk", [x], "--attr", "k=2")
        self.assertEqual(files, {"out0": ((2, 2), [3, 2, 7, 5]), "out1": ((2, 2), [0, 2, 1, 2])})
        answer, files = self.op("relu", [x], "--kernel", "ref")
        self.assertEqual((answer["kernel"], files["out0"]), ("ref", ((2, 3), [3, 0, 2, 0, 7, 5])))
        answer, _ = self.op("relu", [x])
        self.assertNotEqual(answer["kernel"], "ref")
        listing = self.ok("ops", "conv2d")
        for part in ("conv2d", "ops/conv2d.cpp:", "ref"):
            self.assertIn(part, listing)
        for part in ("relu", "adamw_step", "scatter_add"):
            self.assertIn(part, self.ok("ops"))

    def test_operands_written_in_place(self):
        _, files = self.op("sgd_step", [([2], [1, 2]), ([2], [10, -10])], "--attr", "lr=0.5")
        self.assertEqual(files, {"in0": ((2,), [-4, 7])})


class Cost(Cli):
    # net, linear, conv -> parameters, forward and backward FLOPs of one image (tests/step_cost_test.cpp names the source)
    SIZES = {
        "fashion-mnist": {
            ("cnn", 3, 1): (309922, 660912, 1279488), ("cnn", 7, 1): (333739, 708180, 1374024),
            ("cnn", 3, 4): (133642, 927300, 1812264), ("cnn", 7, 4): (157459, 974568, 1906800),
            ("cnn", 3, 2): (252568, 640920, 1239504), ("densepoly", 3, 0): (386718, 772240, 929824),
            ("densepoly", 7, 0): (410535, 819508, 1024360), ("denselinear", 3, 0): (548893, 1096200, 1373904),
            ("denselinear", 7, 0): (1408410, 2812096, 4570496)},
        "cifar10": {
            ("cnn", 3, 1): (4728856, 9950208, 19402752), ("cnn", 7, 1): (5114056, 10719168, 20940672),
            ("cnn", 3, 4): (2882974, 15166176, 29834688), ("cnn", 7, 4): (3268174, 15935136, 31372608),
            ("cnn", 3, 2): (3846388, 9300480, 18103296), ("densepoly", 3, 0): (5908234, 11811840, 14186496),
            ("densepoly", 7, 0): (6293434, 12580800, 15724416), ("denselinear", 3, 0): (8401930, 16797696, 21012480),
            ("denselinear", 7, 0): (21577289, 43136132, 70095112)},
    }

    def test_every_integer_of_the_eighteen_nets(self):
        for dataset, nets in self.SIZES.items():
            for (net, linear, conv), sizes in nets.items():
                for relu in (0, 1) if conv else (1,):
                    c = json.loads(self.ok("cost", "--net", net, "--linear", linear, "--conv", conv, "--relu", relu,
                                           "--dataset", dataset, "--json"))
                    found = c["params"], c["forward_flops_per_image"], c["backward_flops_per_image"]
                    self.assertEqual(found, sizes, (dataset, net, linear, conv, relu))

    def test_json(self):
        c = json.loads(self.ok("cost", "--net", "cnn", "--linear", 3, "--conv", 1, "--relu", 1, "--dataset", "fashion-mnist",
                               "--json"))
        self.assertEqual((c["params"], c["forward_flops_per_image"], c["backward_flops_per_image"]),
                         (309922, 660912, 1279488))
        self.assertEqual(c["batch"], 512)
        for what, total in (("flops_weighted", c["step"]["flops_weighted"]), ("flops_all", c["step"]["flops_all"])):
            self.assertEqual(sum(row[what] for row in c["layers"]), total)
        self.assertEqual(sum(r["bytes_read"] + r["bytes_written"] for r in c["layers"]), c["step"]["bytes"])
        self.assertEqual(sum(r["joules"]["uj"] for r in c["layers"]), c["step"]["joules"]["uj"])
        self.assertEqual({r["phase"] for r in c["layers"]}, {"data", "forward", "backward", "optimizer"})
        self.assertLessEqual({"conv1", "bn1", "relu1", "pool1", "linear1", "linear3", "loss"},
                             {r["layer"] for r in c["layers"]})
        self.assertIn("linear1", self.ok("cost", "--net", "denselinear", "--dataset", "cifar10"))


if __name__ == "__main__":
    WATTLE = str(Path(sys.argv.pop(1)).resolve())
    unittest.main(verbosity=2)
