#!/usr/bin/env python3
"""Times networks under torch.compile, with and without optc before Inductor: a table of benches/CONSUMERS.md.

    dynamo.py [--seconds N] [--table benches/CONSUMERS.md]

needs torch, torchvision, a C++ compiler, and the package optc (`pip install ./python`). Four ways of the same network take turns with one
thread: eager, Inductor alone, exact passes and Inductor, and 0.7 of the multiply-adds, cut on samples, and Inductor. A difference is one
from eager, relative to the largest output. The weights are random, so that a lossy difference says little: see benches/MARKET.md for it.
"""
import argparse
import datetime
import warnings

import torch

import optc
from consume import networks
from consume.turns import fill, milliseconds, ratio, turns

WAYS = {
    "eager": None,
    "Inductor": {},
    "optc, exact": {"passes": "canonicalize,red{hash=none}"},
    "optc, within{macs=0.7}": {"passes": "within{macs=0.7}(red,lrf,lowrank,cut)", "cost": "macs"},
}


class Counted:
    """The backend of optc, which also remembers what share of the multiply-adds is left."""

    def __init__(self, options):
        self.options, self.left = options, None

    def __call__(self, graph_module, example_inputs):
        from optc import dynamo

        run = dynamo.backend(graph_module, example_inputs, options=self.options)
        report = run.report
        self.left = report["after"]["macs"] / report["before"]["macs"]
        return run


def compiled(model, options, samples):
    """The model in one of the ways, and what remembers its size."""
    if options is None:
        return model, None
    # Else what was compiled before would be found again.
    torch._dynamo.reset()
    if not options:
        return torch.compile(model, dynamic=False), None
    data = samples if "within" in options["passes"] else None
    backend = Counted({**options, "data": data, "samples": 32, "verify": "none", "inner": "inductor"})
    return torch.compile(model, backend=backend, dynamic=False), backend


def rows(name, seconds):
    """A row for each way: the multiply-adds left, the difference, the time, and the time beside Inductor alone."""
    model, inputs, samples = networks.MADE[name]()
    (x,), (samples,) = inputs.values(), samples.values()
    expected, runs, said = model(x), [], []
    for way, options in WAYS.items():
        run, backend = compiled(model, options, samples)
        apart = float((run(x) - expected).abs().max() / expected.abs().max())
        runs.append(lambda run=run: run(x))
        said.append((way, "100 %" if backend is None else f"{100 * backend.left:.0f} %", apart))
    times = turns(runs, seconds)
    alone = times[list(WAYS).index("Inductor")]
    for (way, left, apart), taken in zip(said, times):
        yield f"| {name} | {way} | {left} | {apart:.0e} | {milliseconds(taken)} | {ratio(taken, alone)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(networks.MADE))
    parser.add_argument("--seconds", type=float, default=60, help="seconds of turns for a network")
    parser.add_argument("--table", metavar="FILE.md", help="puts the table into this file too")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    lines = [
        f"{datetime.date.today()}; PyTorch {torch.__version__}, optc {optc.__version__}; one thread, medians and quartiles of turns.",
        "",
        "| network | way | multiply-adds | difference | time | of Inductor's |",
        "|---|---|--:|--:|--:|--:|",
    ]
    with torch.no_grad():
        for name in options.networks:
            lines += rows(name, options.seconds)
    print("\n".join(lines))
    if options.table:
        fill(options.table, "dynamo.py", "\n".join(lines))


if __name__ == "__main__":
    main()
