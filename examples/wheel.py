#!/usr/bin/env python3
"""Compares the package with the command on a ResNet-50: seconds and peak memory, from bytes to bytes and from file to file.

    wheel.py --optc target/release/optc [--passes PASSES] [--runs N]

needs the package (`pip install ./python`, which is a release build), torch, torchvision and onnx to make the network, once. Each run
is a process of its own, and they take turns. The package starts with the model's bytes in memory and ends with those of the result;
the command reads and writes files. Memory is the most that was resident, as the system counts it.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent

PACKAGE = """
import sys, optc
path, passes = sys.argv[1:]
with open(path, "rb") as file:
    model = file.read()
made = optc.optimize(model, passes, verify="none").model
assert 0 < len(made) <= len(model) + 65536
"""


def network(path):
    """torchvision's ResNet-50 with random weights; batch norms stay, for there to be something to do."""
    import torch
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.resnet50().eval()
    as_it_is = dict(dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
    with torch.no_grad():
        torch.onnx.export(model, torch.randn(1, 3, 224, 224), path, input_names=["x"], **as_it_is)


def measured(command):
    """Seconds and megabytes of a process."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[0]} failed: {status}")
    return time.perf_counter() - begun, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optc", default="optc")
    parser.add_argument("--passes", default="canonicalize,red{hash=none}")
    parser.add_argument("--model", default="resnet50.onnx", help="is made if it is not there")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    if not pathlib.Path(options.model).exists():
        # Elsewhere: what a process had before it became another program counts as that program's memory.
        make = f"import sys; sys.path.insert(0, {str(HERE)!r}); import wheel; wheel.network({options.model!r})"
        subprocess.run([sys.executable, "-c", make], check=True)
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/out.onnx"
        quiet = ["--no-verify", "--no-measure", "--judge", "none", "--quiet"]
        ways = {
            "package, bytes to bytes": [sys.executable, "-c", PACKAGE, options.model, options.passes],
            "command, file to file": [options.optc, "--passes", options.passes, *quiet, "-o", out, options.model],
        }
        found = {way: [] for way in ways}
        for _ in range(options.runs):
            for way, command in ways.items():
                found[way].append(measured(command))
    print("| way | seconds | most memory, MB |\n|---|--:|--:|")
    for way, runs in found.items():
        seconds, memory = (statistics.median(values) for values in zip(*runs))
        spread = f"{min(s for s, _ in runs):.2f} to {max(s for s, _ in runs):.2f}"
        print(f"| {way} | {seconds:.2f} ({spread}) | {memory:.0f} |")


if __name__ == "__main__":
    main()
