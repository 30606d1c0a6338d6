#!/usr/bin/env python3
"""Every classification, segmentation and video network of torchvision, in each format, through optc; judged by its own runtime.

    python3 examples/zoo.py --optc target/release/optc [--copies] [NAME ...]

needs torch 2.11, torchvision, onnx and onnxruntime. Each network gets random weights, random batch norm statistics, and no layer
that is zero or next to nothing, so that no comparison is vacuous. It is exported as traced TorchScript, ExportedProgram and
ONNX, in a folder that is emptied again. Each file goes through `red{hash=none}`, after which PyTorch or ONNX Runtime must
open it and compute the same within 1e-4 of the largest output, and through `lrf{ratio=0.3}`, after which it must open and
compute finite numbers of the same shapes. The results are kept in --results, so that a run that was broken off goes on, and
benches/ZOO.md is written anew from them.

With --copies there is something to find: in each layer a tenth of the filters of every group are copies of its first, with the
same batch norm. Then `red{hash=none}` must remove multiply-adds, too, and where `lrf{ratio=0.3}` has no layer to take,
`lrf{ratio=0.3,scope=all}` takes its place. The table is benches/ZOO_COPIES.md.
"""
import argparse
import datetime
import json
import multiprocessing
import pathlib
import shutil
import subprocess
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
ROOT = pathlib.Path(__file__).resolve().parent.parent
FORMATS = {"TorchScript": ".pt", "ExportedProgram": ".pt2", "ONNX": ".onnx"}
PIPELINES = {"red": ["red{hash=none}"], "lrf": ["lrf{ratio=0.3}"]}
EVERY_LAYER = "lrf{ratio=0.3,scope=all}"
TOLERANCE = 1e-4
LIMIT = 600  # Seconds that optc, or a runtime, may take for a file.


def names():
    """All networks of the three kinds, the quantised ones left out: they are the same again."""
    import torchvision
    from torchvision.models import list_models

    kinds = [torchvision.models, torchvision.models.segmentation, torchvision.models.video]
    return [name for kind in kinds for name in list_models(module=kind)]


def shape(name, kind):
    if kind == "video":
        frames, size = (8, 112) if name in ("r3d_18", "mc3_18", "r2plus1d_18") else (16, 224)
        return (1, 3, frames, size, size)
    return (1, 3, 299, 299) if name == "inception_v3" else (1, 3, 224, 224)


def network(name, copies):
    """The network with random weights none of which is next to nothing, and an input's shape."""
    import torch
    import torchvision

    torch.manual_seed(0)
    kind = torchvision.models.get_model_builder(name).__module__.split(".")[2:3]
    kind = kind[0] if kind and kind[0] in ("segmentation", "video") else "classification"
    options = {"weights_backbone": None} if kind == "segmentation" else {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.abs().max() == 0:
                parameter.normal_(0, 0.05)
            elif parameter.abs().max() < 1e-4:  # ConvNeXt's layer scale
                parameter.uniform_(0.05, 0.15)
        if copies:
            plant(model)
    return model, shape(name, kind)


def plant(model):
    """Makes a tenth of the filters of every group of every layer copies of its first, with the batch norm after them, and of the
    values of every attention head."""
    from torch import nn

    def copy(pairs, *tensors):
        for tensor in tensors:
            for first, other in pairs if tensor is not None else []:
                tensor[other] = tensor[first]

    normed = []  # What the batch norm after a convolution is to copy, too.
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            groups, per = module.groups, module.out_channels // module.groups
            groups, per = (1, module.out_channels) if per == 1 else (groups, per)
            normed = [(g * per, g * per + k) for g in range(groups) for k in range(1, min(per, max(2, per // 10 + 1)))]
            copy(normed, module.weight, module.bias)
            channels = module.out_channels
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and normed and module.num_features == channels:
            copy(normed, module.weight, module.bias, module.running_mean, module.running_var)
            normed = []
        elif isinstance(module, nn.MultiheadAttention):
            head, start = module.embed_dim // module.num_heads, 2 * module.embed_dim
            pairs = [(start + h * head, start + h * head + 1) for h in range(module.num_heads)]
            copy(pairs, module.in_proj_weight, module.in_proj_bias)
        elif isinstance(module, nn.Linear):
            copy([(0, k) for k in range(1, module.out_features // 10 + 1)], module.weight, module.bias)


def export(name, copies, folder):
    """Writes the network in each format; says why where PyTorch itself does not."""
    import torch

    model, size = network(name, copies)
    example = torch.randn(size)
    failures = {}
    ways = {
        "TorchScript": lambda path: torch.jit.trace(model, example, check_trace=False, strict=False).save(path),
        "ExportedProgram": lambda path: torch.export.save(torch.export.export(model, (example,)), path),
        "ONNX": lambda path: torch.onnx.export(
            model, (example,), path, dynamo=False, opset_version=17, do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE, input_names=["input"], dynamic_axes={"input": {0: "batch"}},
        ),
    }
    for format, way in ways.items():
        try:
            way(str(folder / ("model" + FORMATS[format])))
        except Exception as error:
            failures[format] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
    return size, failures


def runner(path):
    """A function from an array to the list of output arrays, by the format's own runtime."""
    if path.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {session.get_inputs()[0].name: x})
    import torch

    module = torch.jit.load(path).eval() if path.endswith(".pt") else torch.export.load(path).module()

    def call(x):
        with torch.no_grad():
            outputs = module(torch.from_numpy(x))
        if isinstance(outputs, dict):
            outputs = list(outputs.values())
        return [y.numpy() for y in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]

    return call


def judge(before, afters, size):
    """How far each of `afters` is from `before` on two random inputs, relative to the largest output; or what is wrong with it."""
    import numpy as np

    inputs = [np.random.default_rng(seed).standard_normal(size, dtype=np.float32) for seed in range(2)]
    run = runner(before)
    reference = [run(x) for x in inputs]
    del run

    def apart(after):
        run, apart = runner(after), 0.0
        for x, expected in zip(inputs, reference):
            outputs = run(x)
            assert [y.shape for y in outputs] == [y.shape for y in expected], "other shapes"
            assert all(np.isfinite(y).all() for y in outputs), "not finite"
            for y, z in zip(outputs, expected):
                assert z.size == 0 or z.std() > 0, "a vacuous comparison"
                apart = max(apart, float(np.abs(y - z).max() / max(np.abs(z).max(), 1e-12)))
        return apart

    results = {}
    for short, after in afters.items():
        try:
            results[short] = {"apart": apart(after)}
        except Exception as error:
            results[short] = {"error": one_line(error)}
    return results


def one_line(error):
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0]}"[:160]


def forked(work, *args):
    """Calls `work` in a process of its own, so that nothing it does to memory, caches or threads stays; the libraries are loaded
    by then."""
    parent, child = multiprocessing.get_context("fork").Pipe(False)

    def run():
        try:
            child.send((work(*args), None))
        except BaseException as error:
            child.send((None, one_line(error)))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    child.close()
    try:
        if not parent.poll(LIMIT):
            raise RuntimeError("too long")
        result, error = parent.recv()
    except EOFError:
        raise RuntimeError("the process was killed") from None
    finally:
        process.kill()
        process.join()
    if error:
        raise RuntimeError(error)
    return result


def optimise(optc, pipelines, size, before, after):
    """Runs optc with the first of the pipelines that changes something; what it did, or raises with its error."""
    report = after.with_suffix(".json")
    for pipeline in pipelines:
        start = time.time()
        command = [optc, "--passes", pipeline, "--input", size, "--no-verify", "-q", "--report", report, "-o", after, before]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0][:160])
        counts = json.loads(report.read_text())
        before_it, after_it = counts["before"], counts["after"]
        if before_it != after_it:
            break
    known = before_it["macs"] is not None and after_it["macs"] is not None
    what = "macs" if known else "params"
    fewer = round(1 - after_it[what] / before_it[what], 4)
    return {"pipeline": pipeline, "seconds": round(time.time() - start, 2), "fewer": fewer, "of": what}


def measure(optc, name, copies):
    """The cells of a network's row."""
    row = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        written = folder / "written"
        size, failures = forked(export, name, copies, folder)
        for format, suffix in FORMATS.items():
            before = folder / ("model" + suffix)
            if format in failures:
                row[format] = {"export": failures[format]}
                continue
            cells, afters = row.setdefault(format, {}), {}
            written.mkdir()
            for short, pipelines in PIPELINES.items():
                pipelines = pipelines + [EVERY_LAYER] * (copies and short == "lrf")
                after = written / (short + suffix)
                try:
                    cells[short] = optimise(optc, pipelines, "x".join(map(str, size)), before, after)
                    afters[short] = str(after)
                except Exception as error:
                    cells[short] = {"error": "too long" if isinstance(error, subprocess.TimeoutExpired) else str(error)}
            try:
                results = forked(judge, str(before), afters, size)
            except Exception as error:
                results = {short: {"error": str(error)} for short in afters}
            for short, result in results.items():
                cells[short].update(result)
            shutil.rmtree(written)
            before.unlink()
    return row


def cell(row, format, copies):
    """`1e-7, opens`: how far red's file computes from the original, and whether lrf's opens. With copies
    `-14.3 %, 1e-07; -20.1 %`: the multiply-adds that each removed, too."""
    cells = row.get(format, {})
    if "export" in cells:
        return "not exported", [f"PyTorch does not export it: {cells['export']}"]
    texts, why = [], []
    for short in PIPELINES:
        result = cells.get(short, {"error": "not measured"})
        if "error" in result:
            texts.append("**no**")
            why.append(f"{short}: {result['error']}")
            continue
        of = " of parameters" if result.get("of") == "params" else ""
        fewer = f"-{result['fewer']:.1%}".replace("%", " %") + of if copies else ""
        if short == "lrf":
            scope = " (all)" if result.get("pipeline") == EVERY_LAYER else ""
            texts.append("opens" if not copies else fewer + scope if result["fewer"] > 0 else "whole")
            continue
        text = ", ".join([fewer] * copies + [f"{result['apart']:.0e}"])
        if result["apart"] > TOLERANCE:
            why.append(f"red: {result['apart']:.1e} apart")
        most = max(row.get(other, {}).get("red", {}).get("fewer", 0) for other in FORMATS)
        if copies and (result["fewer"] <= 0 or result["fewer"] < most / 2):
            why.append("red: less than half is removed of what another format's file loses")
        texts.append(f"**{text}**" if why else text)
    return ("; " if copies else ", ").join(texts), why


def table(results, copies):
    rows, reasons, good, all_cells = [], [], 0, 0
    for name in sorted(results):
        texts = []
        for format in FORMATS:
            text, why = cell(results[name], format, copies)
            texts.append(text)
            good += not why
            all_cells += text != "not exported"
            reasons += [f"- {name}, {format}: {reason}" for reason in why]
        rows.append(f"| {name} | " + " | ".join(texts) + " |")
    networks = f"{len(results)} of {len(names())}" if len(results) < len(names()) else f"all {len(results)}"
    return "\n".join([
        "# Every network of torchvision, in every format" + ", with copies to find" * copies,
        "",
        f"{datetime.date.today()}; {networks} networks, with random weights; {good} of {all_cells} files that PyTorch exports are right. Made by",
        "",
        "    python3 examples/zoo.py --optc target/release/optc" + " --copies" * copies,
        "",
        *(COPIES_LEGEND if copies else LEGEND),
        "What is bold is not as it should be; the reasons are below.",
        "",
        "| network | " + " | ".join(FORMATS) + " |",
        "|---|" + "---|" * len(FORMATS),
        *rows,
        "",
        *(["## Reasons", "", *reasons] if reasons else ["Nothing is bold."]),
        "",
    ])


LEGEND = [
    "A cell says how far the outputs of what `red{hash=none}` wrote are from the original's, relative to the largest, on two random",
    "inputs; and whether what `lrf{ratio=0.3}` wrote opens and computes finite numbers of the same shapes. PyTorch judges `.pt` and",
    "`.pt2`, ONNX Runtime `.onnx`.",
]
COPIES_LEGEND = [
    "In each layer a tenth of the filters of every group are copies of its first. A cell says how many multiply-adds fewer",
    "`red{hash=none}` leaves and how far the outputs of what it wrote are from the original's, relative to the largest, on two random",
    "inputs; then how many fewer `lrf{ratio=0.3}` leaves, or with (all) `lrf{ratio=0.3,scope=all}`, as the network has no",
    "convolutions that are neither 1x1 nor depthwise; or that it leaves the network whole, as no layer would cost less. What it",
    "wrote opens and computes finite numbers of the same shapes. Parameters stand for multiply-adds where these depend on sizes that",
    "only a run shows. PyTorch judges `.pt` and `.pt2`, ONNX Runtime `.onnx`.",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optc", default=str(ROOT / "target/release/optc"))
    parser.add_argument("--copies", action="store_true", help="plant copies of filters, which red is to find")
    parser.add_argument("--results", type=pathlib.Path, help="[default: target/zoo.json, target/zoo_copies.json]")
    parser.add_argument("--again", action="store_true", help="measure networks anew that have results")
    parser.add_argument("names", nargs="*", help="networks [default: all]")
    args = parser.parse_args()
    import onnxruntime, torchvision  # noqa: F401, E401: each forked process has them at once

    kind = "zoo_copies" if args.copies else "zoo"
    args.results = args.results or ROOT / f"target/{kind}.json"
    results = json.loads(args.results.read_text()) if args.results.exists() else {}
    for name in args.names or names():
        if name in results and not args.again:
            continue
        try:
            results[name] = measure(args.optc, name, args.copies)
        except Exception as error:
            results[name] = {format: {"export": str(error)[:160]} for format in FORMATS}
        print(name, *(cell(results[name], format, args.copies)[0] for format in FORMATS), sep=" | ", flush=True)
        args.results.write_text(json.dumps(results, indent=1))
        (ROOT / f"benches/{kind.upper()}.md").write_text(table(results, args.copies))


if __name__ == "__main__":
    main()
