#!/usr/bin/env python3
"""The same CNN, weights and batches in PyTorch and in wattle: losses of 200 steps, then the test accuracy.

PyTorch draws the weights and writes them as safetensors; both sides train with Adam on the rows in file order, pixel / 255.
Passes when every one of the first 200 losses agrees within 1e-3 relative and the accuracies within 0.3 points.
    train_200.py [--wattle PATH] [--linear 3] [--conv 4] [--relu 1] [--epochs 2] [--dtype f64] [--lr 1e-3] [--json]
    train_200.py --self     PyTorch against PyTorch (other layout, 1 thread): how much rounding alone moves the losses
In f64 both follow each other at Adam's default rate 1e-3, which tests the arithmetic of the whole training. In f32 they do so
at lr 1e-4, which tests the kernels that trainings use; at larger rates f32 measures rounding, not correctness: ReLU and max
pooling turn differences of one ulp into other winners, Adam's division by a small sqrt(v) turns those into full steps, and
PyTorch leaves 1e-3 against itself (contiguous against channels_last) at step 14 with lr 1e-3 and at step 55 with lr 3e-4.
Read a failure at such a rate beside --self, which prints PyTorch's own spread.
"""
import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import torch  # noqa: E402

from study_net import StudyCnn, accuracy, data_folder, load_split, load_weights, save_weights  # noqa: E402

REPO = Path(__file__).resolve().parents[2]
DTYPES = {"f32": torch.float32, "f64": torch.float64}
LOSS_TOLERANCE, ACCURACY_POINTS = 1e-3, 0.3


def fresh_net(args):
    torch.manual_seed(args.seed)
    return StudyCnn(args.linear, args.conv, args.relu).to(DTYPES[args.dtype])


def train_torch(net, args, train, test, layout=torch.contiguous_format):
    """-> losses of all steps, test accuracy in eval mode."""
    images, labels = train
    net = net.to(memory_format=layout).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    losses = []
    for _ in range(args.epochs):
        for start in range(0, len(images), args.batch):
            x = images[start:start + args.batch].contiguous(memory_format=layout)
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(net(x), labels[start:start + args.batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses, accuracy(net, *test)


def train_wattle(args, folder, work, net, test):
    """Runs the CLI -> losses, accuracy of its saved weights (PyTorch evaluates them), accuracy it reports."""
    save_weights(net, work / "init.safetensors")
    command = [args.wattle, "train", "--net", "cnn", "--linear", args.linear, "--conv", args.conv, "--relu", args.relu,
               "--dataset", "fashion-mnist", "--data-dir", folder, "--init", work / "init.safetensors",
               "--optimizer", "adam", "--lr", args.lr, "--dtype", args.dtype, "--batch", args.batch, "--epochs", args.epochs, "--no-shuffle",
               "--log", work / "losses.csv", "--save", work / "out.safetensors", "--json"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=REPO)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\nexit {done.returncode}: {done.stderr[-2000:]}")
    with open(work / "losses.csv", newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file, skipinitialspace=True)]
    trained = fresh_net(args)
    load_weights(trained, work / "out.safetensors")
    return losses, accuracy(trained, *test), reported_accuracy(done.stdout)


def reported_accuracy(text):
    """`accuracy` or `test_accuracy` of the CLI's JSON, as a fraction; None when there is none."""
    start = text.find("{")
    try:
        found = json.loads(text[start:]) if start >= 0 else {}
    except json.JSONDecodeError:
        return None
    return next((float(found[k]) for k in ("test_accuracy", "accuracy") if k in found), None)


def verdict(args, ours, reference, steps_per_epoch):
    """Compares (losses, accuracy, reported) with PyTorch's (losses, accuracy)."""
    losses, expected = ours[0][:args.steps], reference[0][:args.steps]
    errors = [abs(a - b) / abs(b) for a, b in zip(losses, expected)]
    # `not <=` instead of `>`: a NaN loss must fail.
    first_bad = next((i for i, e in enumerate(errors) if not e <= LOSS_TOLERANCE), None)
    points = [100 * abs(a - reference[1]) for a in ours[1:] if a is not None]
    problems = []
    if len(errors) < args.steps or len(ours[0]) != steps_per_epoch * args.epochs:
        problems.append(f"{len(ours[0])} losses logged, expected {steps_per_epoch * args.epochs}")
    if first_bad is not None:
        problems.append(f"loss of step {first_bad + 1}: {losses[first_bad]!r}, PyTorch {expected[first_bad]!r}")
    if not max(points) <= ACCURACY_POINTS:
        problems.append(f"accuracy {ours[1:]}, PyTorch {reference[1]}")
    worst = max(range(len(errors)), key=errors.__getitem__) if errors else 0
    return {"dtype": args.dtype, "lr": args.lr, "cell": [args.linear, args.conv, args.relu], "steps": len(errors), "problems": problems,
            "worst_relative": errors[worst] if errors else None, "worst_step": worst + 1,
            "median_relative": sorted(errors)[len(errors) // 2] if errors else None,
            "final_loss": [ours[0][-1] if ours[0] else None, reference[0][-1]],
            "accuracy": ours[1], "accuracy_reported": ours[2], "accuracy_torch": reference[1],
            "accuracy_points_apart": max(points), "torch": torch.__version__}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wattle", default=str(REPO / "wattle"))
    parser.add_argument("--data-dir")
    for name, default in (("linear", 3), ("conv", 4), ("relu", 1), ("batch", 512), ("epochs", 2),
                          ("steps", 200), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--self", action="store_true", dest="own", help="PyTorch against itself")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(2)
    folder = data_folder(args.data_dir)
    train, test = (load_split(folder, split, DTYPES[args.dtype]) for split in ("train", "t10k"))
    per_epoch = -(-len(train[0]) // args.batch)
    if per_epoch * args.epochs < args.steps:
        parser.error(f"{args.epochs} epochs are {per_epoch * args.epochs} steps, fewer than --steps {args.steps}")
    reference = train_torch(fresh_net(args), args, train, test)
    if args.own:
        torch.set_num_threads(1)
        other = train_torch(fresh_net(args), args, train, test, torch.channels_last)
        ours = (*other, None)
    else:
        with tempfile.TemporaryDirectory(prefix="wattle-train-") as work:
            ours = train_wattle(args, folder, Path(work), fresh_net(args), test)
    result = verdict(args, ours, reference, per_epoch)
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:22} {value}")
    print(f"{int(not result['problems'])} passed, {int(bool(result['problems']))} failed",
          file=sys.stderr if args.json else sys.stdout)
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
