#!/usr/bin/env python3
"""Mixtures of experts from the shell: costs of models, one layer on files, a small study, its models, and what bad input is told."""
import json
import random
import sys
import unittest
from pathlib import Path

import cli_test
from cli_formats_test import codes
from cli_test import npy


class MoE(cli_test.Cli):
    def test_flops_of_presets_and_files(self):
        table = self.ok("moe", "flops")
        self.assertRegex(table, r"deepseekmoe-16b +4096 +74\.42 +74\.4 +16\.376 +2\.829")
        j = json.loads(self.ok("moe", "flops", "--config", "mixtral-8x7b", "--json"))
        self.assertEqual(round(j["params_total"] / 1e9, 2), 46.70)
        self.assertEqual(round(j["params_active"] / 1e9, 2), 12.88)
        self.assertEqual(sum(j["params_total_by_part"].values()), j["params_total"])
        self.assertIn("from 5 tokens on", self.ok("moe", "flops", "--config", "deepseekmoe-16b"))
        m = self.file("m.json", json.dumps({"layers": 2, "d_model": 64, "vocab": 256, "attention": {"heads": 4, "head_dim": 16}, "swiglu": False,
                                            "routed": 63, "top_k": 7, "shared": 1, "expert_hidden": 64, "sequence": 64}).encode())
        j = json.loads(self.ok("moe", "flops", "--config", m, "--json"))
        weights = 2 * (4 * 64 * 64 + 8 * 2 * 64 * 64)
        self.assertEqual(j["flops_per_sequence"], 64 * (6 * weights + 12 * 2 * 64 * 64 + 6 * 256 * 64))

    def test_flops_refuses_by_name(self):
        self.refused(["expected one of dense-0.2b"], "moe", "flops", "--config", "gpt")
        bad = self.file("m.json", b'{"layer": 1}')
        self.refused(["m.json: file: found 'layer'"], "moe", "flops", "--config", bad)

    def layer(self, config, tokens, *more):
        c = self.file("layer.json", json.dumps(config).encode())
        r = random.Random(1)
        x = self.file("x.npy", npy([tokens, config["d_model"]], [r.uniform(-1, 1) for _ in range(tokens * config["d_model"])]))
        return c, x, json.loads(self.ok("moe", "layer", "--config", c, "--in", x, "--out", self.dir / "out", *more))

    def test_a_layer_on_files(self):
        config = {"d_model": 8, "d_ff": 16, "experts": 4, "top_k": 2, "segments": 2, "shared": 1, "aux_alpha": 0.01}
        c, x, stats = self.layer(config, 10)
        self.assertEqual((stats["tokens"], stats["active"], sum(stats["load"])), (10, 3, 30))
        self.assertEqual(len(stats["load"]), 7)
        self.assertGreater(stats["aux_loss"], 0.0099)
        first = (self.dir / "out/y.npy").read_bytes()
        weights = self.dir / "out/weights.safetensors"
        self.ok("moe", "layer", "--config", c, "--weights", weights, "--in", x, "--grad", x, "--out", self.dir / "again")
        self.assertEqual((self.dir / "again/y.npy").read_bytes(), first)  # the weights that it wrote are those it used
        self.assertEqual(codes(self.dir / "again/x_grad.npy")[0], "<f4")
        self.assertTrue((self.dir / "again/grads.safetensors").exists())
        # The same routing, given.
        self.ok("moe", "layer", "--config", c, "--weights", weights, "--in", x, "--experts", self.dir / "out/experts.npy", "--out", self.dir / "given")
        self.assertEqual((self.dir / "given/y.npy").read_bytes(), first)

    def test_a_layer_refuses(self):
        c, x, _ = self.layer({"d_model": 8, "d_ff": 16, "experts": 4, "top_k": 2}, 3)
        bad = self.file("bad.json", b'{"experts": 4, "top_k": 5}')
        self.refused(["top_k: found 5, expected 1 to 4 experts"], "moe", "layer", "--config", bad, "--in", x)
        narrow = self.file("narrow.npy", npy([3, 4], [0] * 12))
        self.refused(["expected the last size 8"], "moe", "layer", "--config", c, "--in", narrow)
        experts = self.file("e.npy", npy([2, 1], [0, 4], "<i8"))
        self.refused(["counting_sort", "index 4 found at position 1"], "op", "counting_sort", "--in", experts, "--attr", "experts=4", "--out", self.dir / "sorted")

    def test_an_account_of_a_layer(self):
        c = self.file("layer.json", json.dumps({"d_model": 8, "d_ff": 16, "experts": 4, "top_k": 2, "segments": 2, "shared": 1}).encode())
        text = self.ok("moe", "account", "--config", c, "--tokens", 16)
        self.assertIn("1 shared + 7 routed experts of 8, top 3, d 8; dense: 32 hidden", text)
        self.assertIn("at no batch up to 2^20 rows", text)
        j = json.loads(self.ok("moe", "account", "--config", c, "--tokens", 16, "--json"))
        self.assertEqual(j["routed"]["params_total"], 8 * 2 * 8 * 8 + 7 * 8)
        self.assertEqual(j["routed"]["optimizer_bytes"], 28 * j["routed"]["params_total"])
        self.assertEqual(j["routed"]["step"]["kind"], "modelled_table")
        self.assertEqual([p["tokens"] for p in j["batches"]][:2], [1, 4])
        self.refused("--tokens: found 0, expected a number > 0", "moe", "account", "--tokens", 0, code=2)

    def test_study_probe_and_generate(self):
        r = random.Random(2)
        text = self.file("text.txt", "".join(f"{r.choice(['one', 'two', 'three'])} and " for _ in range(40000)).encode())
        out = self.dir / "study"
        study = ["study", "moe", "--text", text, "--arms", "dense2,m4", "--seeds", "1", "--tokens", "8192", "--validation-tokens", "640", "--out", out]
        shown = self.ok(*study)
        self.assertIn("m4", shown)
        self.assertIn("reported", shown)
        page = (out / "report.html").read_text()
        for part in ("Loss against active FLOPs", "bytes moved in training", "Which claims of the paper", "Load", "every expert is resident"):
            self.assertIn(part, page)
        runs = json.loads((out / "study.json").read_text())["runs"]
        self.assertEqual([x["arm"] for x in runs], ["dense2", "m4"])
        before = (out / "study.json").read_bytes()
        self.ok(*study)  # nothing is missing
        self.assertEqual((out / "study.json").read_bytes(), before)
        self.refused(["belongs to another study"], *study[:-6], "--tokens", "4096", "--validation-tokens", "640", "--out", out)
        model = out / "models/m4-1.safetensors"
        j = json.loads(self.ok("moe", "probe", "--model", model, "--text", text, "--tokens", "640", "--json"))
        self.assertEqual(j["probes"], runs[1]["probes"])
        self.assertEqual(j["loss"], runs[1]["loss"])
        self.refused(["no experts to probe"], "moe", "probe", "--model", out / "models/dense2-1.safetensors", "--text", text)
        said = self.ok("generate", "--model", model, "--prompt", "one", "--count", "20", "--temperature", "0")
        self.assertTrue(said.startswith("one"))
        self.refused(["prompt is empty"], "generate", "--model", model, "--prompt", "")
        self.refused(["expected kjv, python, c++"], "study", "moe", "--text", "/nowhere", "--out", self.dir / "x")


if __name__ == "__main__":
    cli_test.WATTLE = str(Path(sys.argv.pop(1)).resolve())
    unittest.main(verbosity=2)
