#!/usr/bin/env python3
"""Pruned networks beside magnitude alone: the table of benches/PRUNE.md.

    prune.py --optc PATH --data SPEC --eval SPEC [--samples N] [--goals "sparsity=0.5;pattern=2:4"] [--input SHAPE] MODEL...
"""
import argparse
import json
import subprocess
import tempfile
from pathlib import Path

GOALS = ["sparsity=0.5", "pattern=2:4", "sparsity=0.7"]
WAYS = {
    "`prune`": "",
    "without a refit": "refit=false",
    "the same share for all layers": "spread=even",
    "magnitude alone": "by=magnitude,spread=even,refit=false",
    "no data": None,
}


def run(arguments: argparse.Namespace, model: str, passes: str, with_data: bool) -> dict:
    """The report of optc on one model."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        output = Path(folder) / ("out" + Path(model).suffix)
        command = [arguments.optc, "--quiet", "--passes", passes, "--input", arguments.input, "--eval", arguments.eval,
                   "--judge", "none", "--no-verify", "--report", str(report), "-o", str(output)]
        if with_data:
            command += ["--data", arguments.data, "--samples", arguments.samples]
        subprocess.run([*command, model], check=True)
        return json.loads(report.read_text())


def cell(report: dict) -> str:
    """Top-1 in percent, with seconds."""
    seconds = sum(step["seconds"] for step in report["passes"])
    return f"{100 * report['eval']['top1_after']:.2f} ({seconds:.0f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--optc", default="optc")
    parser.add_argument("--data", required=True)
    parser.add_argument("--eval", required=True)
    parser.add_argument("--samples", default="400")
    parser.add_argument("--goals", default=";".join(GOALS))
    parser.add_argument("--input", default="1x3x32x32")
    arguments = parser.parse_args()
    goals = arguments.goals.split(";")
    print("| network | way | dense | " + " | ".join(goals) + " |")
    print("| --- " * (3 + len(goals)) + "|")
    for model in arguments.models:
        for name, options in WAYS.items():
            passes = [f"prune{{{goal}{',' + options if options else ''}}}" for goal in goals]
            reports = [run(arguments, model, each, options is not None) for each in passes]
            dense = f"{100 * reports[0]['eval']['top1_before']:.2f}"
            print(f"| {Path(model).stem} | {name} | {dense} | " + " | ".join(map(cell, reports)) + " |", flush=True)


if __name__ == "__main__":
    main()
