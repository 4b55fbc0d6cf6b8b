#!/usr/bin/env python3
"""A real MLflow server against what the command line sends it; the server is killed in the middle and started again.

    real_server_test.py [--wattle PATH] [--mlflow PATH] [--rows 2000]
1. `wattle study layers --mlflow URL`: every run of runs.csv is there with its parameters, figures and energy keys, and the
   losses of every step once each.
2. `wattle train --mlflow URL`: the server is killed (SIGKILL) after some epochs and started again before the end: the losses
   equal losses.csv, nothing is lost and nothing is twice.
3. The server stays away until after the end: `wattle mlflow deliver` sends the rest.
"""
import argparse
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


class Server:
    """mlflow server on sqlite, one process group."""

    def __init__(self, mlflow, folder):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.mlflow, self.folder, self.process = mlflow, folder, None
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self):
        log = open(self.folder / "server.log", "ab")
        self.process = subprocess.Popen(
            [self.mlflow, "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
             "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db",
             "--default-artifact-root", str(self.folder / "artifacts")],
            stdout=log, stderr=log, start_new_session=True)
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=2)
                return
            except (OSError, urllib.error.URLError):
                if self.process.poll() is not None:
                    raise SystemExit(f"mlflow server ended: {(self.folder / 'server.log').read_text()[-2000:]}")
                time.sleep(0.5)
        raise SystemExit("mlflow server does not answer")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask(self, path, body=None):
        request = urllib.request.Request(f"{self.url}/api/2.0/mlflow/{path}", method="POST" if body else "GET",
                                         data=json.dumps(body).encode() if body else None,
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def runs(self, experiment):
        found = self.ask(f"experiments/get-by-name?experiment_name={urllib.request.quote(experiment)}")
        runs, token = [], None
        while True:
            body = {"experiment_ids": [found["experiment"]["experiment_id"]], "max_results": 100}
            if token:
                body["page_token"] = token
            page = self.ask("runs/search", body)
            runs += page.get("runs", [])
            token = page.get("next_page_token")
            if not token:
                return runs

    def history(self, run, key):
        points, token = [], None
        while True:
            path = f"metrics/get-history?run_id={run['info']['run_id']}&metric_key={urllib.request.quote(key)}&max_results=1000"
            page = self.ask(path + (f"&page_token={urllib.request.quote(token)}" if token else ""))
            points += page.get("metrics", [])
            token = page.get("next_page_token")
            if not token:
                return {int(p["step"]): float(p["value"]) for p in points}, Counter(int(p["step"]) for p in points)


def check(condition, message):
    if not condition:
        raise SystemExit(f"FAILED: {message}")
    check.count += 1


check.count = 0


def close(a, b):
    return abs(a - b) <= 1e-6 * max(abs(a), abs(b), 1e-12)


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    check(done.returncode == 0, f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def data_of(run_):
    data = run_["data"]
    return ({m["key"]: float(m["value"]) for m in data.get("metrics", [])}, {p["key"]: p["value"] for p in data["params"]},
            {t["key"]: t["value"] for t in data["tags"]})


def study(args, server, work):
    run(args.wattle, "study", "layers", "--rows", args.rows, "--epochs", 2, "--seeds", 1, "--nets", "cnn311,cnn340,densepoly3",
        "--mlflow", server.url, "--out", work / "study")
    with open(work / "study/runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    runs = server.runs("wattle study layers, fashion-mnist")
    check(len(runs) == len(rows) == 3, f"{len(runs)} runs on the server, {len(rows)} in runs.csv")
    for row in rows:
        match = [r for r in runs if all(data_of(r)[1][k] == row[k] for k in ("net", "linear", "conv", "relu", "seed"))]
        check(len(match) == 1, f"{len(match)} runs for {row}")
        metrics, params, tags = data_of(match[0])
        check(match[0]["info"]["status"] == "FINISHED" and int(match[0]["info"]["end_time"]) > 0, "run is not finished")
        check(params["rows"] == row["rows"] and params["epochs"] == row["epochs"], f"parameters {params}")
        for key, column in (("test_accuracy", "accuracy"), ("flops_weighted", "flops"), ("flops_all", "flops_all"),
                            ("bytes", "bytes"), ("seconds", "seconds"), ("energy/total_j", "joules"), ("params", "params")):
            check(close(metrics[key], float(row[column])), f"{key}: {metrics[key]} on the server, {row[column]} in runs.csv")
        check(tags["energy.tier"] == row["joules_kind"] and tags["energy.source"] == row["joules_source"], f"tags {tags}")
        for prefix in ("energy/op/", "energy/layer/"):
            parts = sum(v for k, v in metrics.items() if k.startswith(prefix))
            check(close(parts, metrics["energy/total_j"]), f"{prefix}: {parts}, total {metrics['energy/total_j']}")
        steps = 2 * -(-int(row["rows"]) // 512)
        losses, times = server.history(match[0], "loss")
        check(set(losses) == set(range(1, steps + 1)) and set(times.values()) == {1}, f"losses of steps {sorted(times.items())}")
    check(not list((work / "study/mlflow").glob("*.jsonl")), "something is left in the spool")


def compare_losses(server, work, experiment_runs, log):
    with open(log, newline="") as file:
        expected = {int(r["step"]): float(r["loss"]) for r in csv.DictReader(file)}
    check(len(experiment_runs) == 1, f"{len(experiment_runs)} runs")
    losses, times = server.history(experiment_runs[0], "loss")
    check(set(losses) == set(expected), f"{len(losses)} losses on the server, {len(expected)} in losses.csv")
    check(set(times.values()) == {1}, f"losses that are there twice: {[s for s, n in times.items() if n > 1]}")
    check(all(close(losses[s], expected[s]) for s in expected), "a loss differs")
    return len(expected)


def train_through_a_kill(args, server, work, restart_before_end):
    before = {r["info"]["run_id"] for r in existing_runs(server)}
    log = work / f"losses{int(restart_before_end)}.csv"
    process = subprocess.Popen(
        [str(a) for a in (args.wattle, "train", "--rows", 20000, "--epochs", 24, "--log", log, "--mlflow", server.url,
                          "--mlflow-spool", work / "spool")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    epochs = 0
    for line in process.stdout:
        epochs += line.startswith("epoch")
        if epochs == 4:
            server.kill()
            if restart_before_end:
                time.sleep(1)
                server.start()
            break
    process.stdout.read()
    check(process.wait() == 0, "the training fails with its server")
    if not restart_before_end:
        check(list((work / "spool").glob("*.jsonl")), "nothing is spooled")
        server.start()
    if list((work / "spool").glob("*.jsonl")):
        run(args.wattle, "mlflow", "deliver", "--url", server.url, "--spool", work / "spool")
    check(not list((work / "spool").glob("*.jsonl")), "something is left in the spool")
    new = [r for r in existing_runs(server) if r["info"]["run_id"] not in before]
    check(new and new[0]["info"]["status"] == "FINISHED", "the run is not finished")
    return compare_losses(server, work, new, log)


def existing_runs(server):
    try:
        return server.runs("wattle train")
    except urllib.error.HTTPError:
        return []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wattle", default=str(REPO / "wattle"))
    parser.add_argument("--mlflow", default=str(REPO / "build/mlflow-venv/bin/mlflow"))
    parser.add_argument("--rows", type=int, default=2000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wattle-mlflow-") as folder:
        work = Path(folder)
        server = Server(args.mlflow, work)
        server.start()
        try:
            study(args, server, work)
            print("study: 3 runs equal runs.csv", flush=True)
            for restart in (True, False):
                steps = train_through_a_kill(args, server, work, restart)
                when = "before the end" if restart else "after the end"
                print(f"train: server killed and started again {when}: {steps} losses, each once", flush=True)
        finally:
            server.kill()
    print(f"{check.count} checks passed")


if __name__ == "__main__":
    sys.exit(main())
