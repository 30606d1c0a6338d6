#!/usr/bin/env python3
"""Pruned networks beside magnitude alone: the table of benches/PRUNE.md.

    prune.py --optc PATH --data SPEC --eval SPEC [--samples N] [--goals "sparsity=0.5;pattern=2:4"] [--input SHAPE] MODEL...
"""
from pathlib import Path

from evaluated import parser, report, seconds

GOALS = ["sparsity=0.5", "pattern=2:4", "sparsity=0.7"]
WAYS = {
    "`prune`": "",
    "without a refit": "refit=false",
    "the same share for all layers": "spread=even",
    "magnitude alone": "by=magnitude,spread=even,refit=false",
    "no data": None,
}


def cell(found: dict) -> str:
    """Top-1 in percent, with seconds."""
    return f"{100 * found['eval']['top1_after']:.2f} ({seconds(found):.0f} s)"


def main() -> None:
    wanted = parser(__doc__)
    wanted.add_argument("--goals", default=";".join(GOALS))
    arguments = wanted.parse_args()
    goals = arguments.goals.split(";")
    print("| network | way | dense | " + " | ".join(goals) + " |")
    print("| --- " * (3 + len(goals)) + "|")
    for model in arguments.models:
        for name, options in WAYS.items():
            passes = [f"prune{{{goal}{',' + options if options else ''}}}" for goal in goals]
            reports = [report(arguments, model, each, with_data=options is not None) for each in passes]
            dense = f"{100 * reports[0]['eval']['top1_before']:.2f}"
            print(f"| {Path(model).stem} | {name} | {dense} | " + " | ".join(map(cell, reports)) + " |", flush=True)


if __name__ == "__main__":
    main()
