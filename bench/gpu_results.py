#!/usr/bin/env python3
"""results.json from what bench/gpu_run.sh left in a folder, with a verdict a line; and the same as a short table.
    gpu_results.py OUT COMMIT"""
import json
import re
import sys
from pathlib import Path


def load(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def main():
    out, commit = Path(sys.argv[1]), sys.argv[2]

    def text(name):
        return (out / name).read_text() if (out / name).exists() else ""

    info = load(out / "info.json") or {}
    lines = []

    def line(what, found, holds):
        lines.append({"what": what, "found": found, "holds": bool(holds)})

    passed, skipped = re.search(r"\[  PASSED  \] (\d+)", text("test.txt")), "SKIPPED" in text("test.txt")
    line("every op against the CPU in f64, none skipped", f"{passed[1] if passed else 0} tests passed",
         passed and not skipped and "FAILED" not in text("test.txt"))
    passed = re.search(r"\[  PASSED  \] (\d+)", text("device.txt"))
    line("captured steps, strict products, large shapes", f"{passed[1] if passed else 0} tests passed",
         passed and "SKIPPED" not in text("device.txt") and "FAILED" not in text("device.txt"))
    for tool in ("memcheck", "racecheck", "initcheck"):
        t = text(f"{tool}.txt")
        found = re.search(r"(ERROR SUMMARY|RACECHECK SUMMARY): (.*)", t)
        line(f"compute-sanitizer {tool}", found[2] if found else "did not finish",
             found and found[2].startswith("0 ") and "PASSED" in t)
    sums = [s.split()[0] for s in text("weights.sha256").splitlines()]
    line("100 steps in two processes, the same bits", " ".join(s[:12] for s in sums), len(sums) == 2 and sums[0] == sums[1])
    nvml = load(out / "nvml.json") or {}
    line("energy counter against integrated power, 5 %", nvml.get("worst_difference"), nvml.get("holds"))
    closure = load(out / "closure.txt") or {}
    line("joules of the ops over those of the step, 0.85 to 1.15", closure.get("closure"), closure.get("holds"))
    rows = [r for name in ("steps", "compiled", "kernels") for r in (load(out / f"{name}.json") or {"rows": []})["rows"]]
    must = {"eager against eager": 1.2, "graph against eager": 4, "graph against graph": 0.95, "graph against compiled": 0.9,
            "gemm": 0.95, "conv": 0.9, "LIF forward and backward": 10, "MoE": 0.85}
    for r in rows:
        wanted = next((v for k, v in must.items() if k in r["row"]), None)
        if "speed" in r and wanted:
            line(f"{r['row']}: speed >= {wanted}", round(r["speed"], 3), r["speed"] >= wanted)
        if "graph against eager" in r["row"] and "joules" in r:
            line(f"{r['row']}: joules <= 1/3", round(r["joules"], 3), r["joules"] <= 1 / 3)
        if "counted over uncounted" in r["row"]:
            line(f"{r['row']} <= 1.03", round(r["time"], 4), r["time"] <= 1.03)
    copy = next((r for r in rows if r["row"].startswith("copy")), None)
    for r in rows:
        found = re.match(r"LIF forward, (\d+) steps of (\d+)", r["row"])
        if found and copy:  # 12 bytes a neuron and step against 8 a number of the faster copy
            share = (12 * int(found[1]) * int(found[2]) / r["ours_us"]) / (8 * (1 << 28) / min(copy["ours_us"], copy["theirs_us"]))
            line(f"{r['row']}: share of the copy's bytes a second >= 0.75", round(share, 3), share >= 0.75)
    for name in ("fashion", "cifar"):
        study = load(out / name / "study.json")
        if study:
            kinds = {r["joules"]["kind"] for r in study["runs"]}
            line(f"study layers, {name}: joules of {len(study['runs'])} runs", ", ".join(sorted(kinds)), kinds == {"measured"})
    results = {"commit": commit, "info": info, "gpu": text("gpu.txt").splitlines(), "laps": text("laps.txt").splitlines(),
               "nvml": nvml, "closure": closure, "rows": rows, "lines": lines}
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    for x in lines:
        print(f"{'holds' if x['holds'] else 'SHORT':6s} {x['what']}: {x['found']}")
    return 0 if all(x["holds"] for x in lines) else 1


sys.exit(main())
