#!/usr/bin/env python3
"""Sends graphs that NNSmith makes at random through exact pipelines of optc, and lets ONNX Runtime judge what comes back.

    python3 -m venv nnsmith && nnsmith/bin/pip install nnsmith torch onnx onnxscript onnxruntime
    cargo build --release
    OPTC=target/release/optc nnsmith/bin/python examples/foreign_graphs.py --graphs 1000 > benches/NNSMITH.md

NNSmith (Liu et al., ASPLOS 2023) knows nothing of optc: it makes valid networks of some seventy operators over all element
types, by solving for shapes and attributes, and PyTorch exports them as ONNX. Each goes through each pipeline and both files are
opened in ONNX Runtime, without its own optimisations and with them, and run on the same inputs. Prints a table; a graph that
comes out differently is kept in --keep and its seed is named, and the exit status is then 1.
"""
import argparse
import collections
import functools
import multiprocessing
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")

import numpy as np
import onnx
import onnxruntime as ort
import torch
from nnsmith.abstract.extension import activate_ext
from nnsmith.graph_gen import model_gen
from nnsmith.logging import CORE_LOG, DTEST_LOG, MGEN_LOG
from nnsmith.materialize import Model
from nnsmith.narrow_spec import auto_opset

PIPELINES = ["canonicalize", "red{hash=none}"]
# Rounding, relative to the largest element of an output: whole numbers are equal or not. Where a network computes in half precision
# its other results are no more precise than that.
TOLERANCE = {"float64": 1e-5, "float32": 1e-4, "float16": 1e-2}
# The rounding of half precision.
ULP = 2**-10
HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
WORDS = {
    "same": "same results",
    "unfit": "not judged: the original does not open, is not finite, or is changed by rounding alone",
    "refused": "refused by optc",
    "differs": "other results",
    "broken": "does not open any more",
}


def generator():
    """What makes the network of a seed, as an ONNX model; `None` where NNSmith finds none."""
    # NNSmith was written for PyTorch's first exporter.
    torch.onnx.export = functools.partial(torch.onnx.export, dynamo=False)
    for log in (CORE_LOG, DTEST_LOG, MGEN_LOG):
        log.setLevel("ERROR")
    kind = Model.init("onnx")
    kind.add_seed_setter()
    opset = auto_opset(kind, None, vulops=False)
    activate_ext(opset=opset, factory=None)

    def make(seed):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        size = 3 + random.randrange(18)
        try:
            made = model_gen(opset=opset, method="symbolic-cinit", seed=seed, max_nodes=size, timeout_ms=10_000)
            model = kind.from_gir(made.make_concrete())
            model.refine_weights()
            return model.native_model
        except Exception:
            return None

    return make


def run(path, feeds, level):
    """The outputs of the model in ONNX Runtime."""
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return dict(zip((o.name for o in session.get_outputs()), session.run(None, feeds)))


def nodes(model):
    """How many nodes compute something."""
    return sum(node.op_type != "Constant" for node in model.graph.node)


def inputs(model, seed):
    """Numbers around zero for floats, small ones for integers."""
    rng = np.random.default_rng(seed)
    held = {w.name for w in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name in held:
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        made = rng.normal(size=shape) if dtype.kind == "f" else rng.integers(0, 2 if dtype.kind == "b" else 5, size=shape)
        feeds[value.name] = np.asarray(made).astype(dtype)
    return feeds


def is_half(model):
    """Whether anything in the network has a type of half precision."""
    graph = model.graph
    values = [value.type.tensor_type.elem_type for value in [*graph.input, *graph.output, *graph.value_info]]
    casts = [attribute.i for node in graph.node if node.op_type == "Cast" for attribute in node.attribute if attribute.name == "to"]
    return any(kind in HALF for kind in [*values, *casts, *(w.data_type for w in graph.initializer)])


def same(before, after, half):
    """Whether all outputs have their names, types and shapes, and their elements up to rounding."""
    if before.keys() != after.keys():
        return False
    for name, x in before.items():
        y = after[name]
        if x.dtype != y.dtype or x.shape != y.shape:
            return False
        tolerance = TOLERANCE["float16" if half and x.dtype.kind == "f" else str(x.dtype)] if x.dtype.kind == "f" else 0
        x, y = x.astype(np.float64), y.astype(np.float64)
        if x.size and np.abs(x - y).max() > tolerance * max(np.abs(x).max(), 1e-3):
            return False
    return True


def judge(before, after, feeds, expected, half):
    """What became of a model in this pipeline."""
    for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
        try:
            got = run(after, feeds, level)
        except Exception:
            try:
                run(before, feeds, level)
            except Exception:
                continue  # This level cannot open the original either.
            return "broken"
        if not same(expected, got, half):
            return "differs"
    return "same"


def nudged(feeds, by):
    """Inputs of half precision that are off by as much as rounding may be."""
    return {name: (x * x.dtype.type(1 + by)) if x.dtype == np.float16 else x for name, x in feeds.items()}


def expectation(path, feeds, half):
    """The original's outputs; `None` where nothing can be judged by them: rounding alone changes them."""
    plain, optimised = ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    try:
        expected = run(path, feeds, plain)
        others = [run(path, feeds, optimised)]
        if half:
            others += [run(path, nudged(feeds, by), plain) for by in (ULP, -ULP)]
    except Exception:
        return None
    finite = all(np.isfinite(x.astype(np.float64)).all() for x in expected.values())
    return expected if finite and all(same(expected, other, half) for other in others) else None


def start(arguments):
    """Prepares a process that tries seeds."""
    global MAKE, OPTIONS
    MAKE, OPTIONS = generator(), arguments


def attempt(seed):
    """The operators of a seed's graph, and for each pipeline what became of it, why optc refused it if it did, and whether it has fewer
    nodes; `None` where there is no graph."""
    model = MAKE(seed)
    if model is None:
        return None
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        before, after = pathlib.Path(scratch, "before.onnx"), pathlib.Path(scratch, "after.onnx")
        onnx.save(model, before)
        feeds = inputs(model, seed)
        half = is_half(model)
        expected = expectation(before, feeds, half)
        for i, pipeline in enumerate(PIPELINES):
            after.unlink(missing_ok=True)
            command = [OPTIONS.optc, "--no-verify", "--passes", pipeline, "-o", after, before]
            said = subprocess.run(command, capture_output=True, text=True, timeout=600)
            if said.returncode or not after.exists():
                outcome = "refused"
            elif expected is None:
                outcome = "unfit"
            else:
                outcome = judge(before, after, feeds, expected, half)
            why = next((line for line in said.stderr.splitlines() if line.startswith("error")), "") if outcome == "refused" else ""
            results.append((outcome, why, after.exists() and nodes(onnx.load(after)) < nodes(model)))
            if outcome in ("differs", "broken", "refused"):
                OPTIONS.keep.mkdir(exist_ok=True)
                shutil.copy(before, OPTIONS.keep / f"{seed}_{i}.onnx")
                (OPTIONS.keep / f"{seed}_{i}.txt").write_text(said.stdout + said.stderr)
    return collections.Counter(n.op_type for n in model.graph.node), results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graphs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep", type=pathlib.Path, default=pathlib.Path("foreign_graphs_failing"))
    arguments = parser.parse_args()
    arguments.optc = os.environ.get("OPTC") or shutil.which("optc") or sys.exit("OPTC names the command to try")
    seeds = range(arguments.first, arguments.first + arguments.graphs)
    counts = {pipeline: collections.Counter() for pipeline in PIPELINES}
    operators, smaller, faults, none = collections.Counter(), collections.Counter(), [], 0
    with multiprocessing.get_context("spawn").Pool(arguments.jobs, start, [arguments]) as pool:
        for seed, attempted in zip(seeds, pool.imap(attempt, seeds)):
            if attempted is None:
                none += 1
                continue
            operators.update(attempted[0])
            for pipeline, (outcome, why, fewer) in zip(PIPELINES, attempted[1]):
                counts[pipeline][outcome] += 1
                smaller[pipeline] += fewer
                if outcome in ("differs", "broken", "refused"):
                    faults.append(f"seed {seed}, `{pipeline}`: {WORDS[outcome]}" + f" ({why})" * bool(why))
    print("# Graphs of another generator\n")
    print("NNSmith makes networks at random; `examples/foreign_graphs.py` sends them through exact pipelines and lets ONNX Runtime")
    print(f"{ort.__version__} judge the files, without its own optimisations and with them. The command that made this table:\n")
    print(f"    OPTC=target/release/optc python3 examples/foreign_graphs.py --graphs {arguments.graphs} --first {arguments.first}\n")
    print(f"Seeds {seeds[0]} to {seeds[-1]}: {len(seeds) - none} graphs of {sum(operators.values())} nodes, {len(operators)} ONNX operators.\n")
    print("| | " + " | ".join(f"`{p}`" for p in PIPELINES) + " |\n|---|" + "---:|" * len(PIPELINES))
    for outcome, words in WORDS.items():
        print(f"| {words} | " + " | ".join(str(counts[p][outcome]) for p in PIPELINES) + " |")
    print("| fewer nodes than before, constants not counted | " + " | ".join(str(smaller[p]) for p in PIPELINES) + " |\n")
    print("Operators: " + ", ".join(f"{name} {n}" for name, n in operators.most_common()) + ".")
    if faults:
        print("\n" + "\n".join(f"- {fault}" for fault in faults))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
