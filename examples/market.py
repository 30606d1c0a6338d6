#!/usr/bin/env python3
"""Each method alone and all together, at several budgets: the table of benches/MARKET.md.

    market.py --optc PATH --data SPEC --eval SPEC [--samples N] [--fractions 0.5,0.4] [--input SHAPE] MODEL...
"""
import argparse
import json
import subprocess
import tempfile
from pathlib import Path

METHODS = ["red", "lrf", "lowrank", "cut", "red,lrf,lowrank,cut"]


def run(arguments: argparse.Namespace, model: str, methods: str, fraction: str) -> str:
    """Top-1 in percent and seconds of optc, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        output = Path(folder) / ("out" + Path(model).suffix)
        command = [arguments.optc, "--quiet", "--passes", methods, "--target", f"macs={fraction}", "--input", arguments.input,
                   "--data", arguments.data, "--samples", arguments.samples, "--eval", arguments.eval, "--judge", "none",
                   "--no-verify", "--report", str(report), "-o", str(output), model]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            lines = [line.strip() for line in done.stderr.splitlines() if "leaves" in line]
            return "not reached: " + lines[0].split(":")[0] if lines else "failed"
        found = json.loads(report.read_text())
        kept = found["after"]["macs"] / found["before"]["macs"]
        seconds = sum(step["seconds"] for step in found["passes"])
        return f"{100 * found['eval']['top1_after']:.2f} ({100 * kept:.1f} % kept, {seconds:.0f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--optc", default="optc")
    parser.add_argument("--data", required=True)
    parser.add_argument("--eval", required=True)
    parser.add_argument("--samples", default="400")
    parser.add_argument("--fractions", default="0.5,0.4,0.3")
    parser.add_argument("--methods", default=";".join(METHODS))
    parser.add_argument("--input", default="1x3x32x32")
    arguments = parser.parse_args()
    fractions = arguments.fractions.split(",")
    print("| network | methods | " + " | ".join(f"macs={fraction}" for fraction in fractions) + " |")
    print("| --- " * (2 + len(fractions)) + "|")
    for model in arguments.models:
        for methods in arguments.methods.split(";"):
            cells = [run(arguments, model, methods, fraction) for fraction in fractions]
            print(f"| {Path(model).stem} | {methods} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
