"""Graph passes that make trained networks smaller and faster, and give back the same kind of model.

    import optc

    smaller = optc.optimize("model.onnx", "red", output="smaller.onnx")
    print(smaller.report["after"]["params"])

`optimize` takes a path, bytes, an `onnx.ModelProto`, a `torch.export.ExportedProgram`, or a module with example inputs. Neither torch nor
onnx is imported unless what is given is theirs.
"""
from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from . import _models
from ._optc import (
    VERSION as __version__,
    DataError,
    Error,
    ModelError,
    PassError,
    UsageError,
    VerificationError,
    inspect as _inspect,
    optimize as _optimize,
    with_held_out as _with_held_out,
)

__all__ = [
    "DataError",
    "Error",
    "ModelError",
    "PassError",
    "Result",
    "UsageError",
    "VerificationError",
    "__version__",
    "inspect",
    "optimize",
]


@dataclass(frozen=True)
class Result:
    """What `optimize` gives.

    Attributes:
        model: the same kind that was given; for a path the bytes of the result, or with `output` the path of the file that was written.
        report: what was done, and what not and why: what the command writes with `--report`.
    """

    model: Any = field(repr=False)
    report: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        before, after = (self.report[when]["params"] for when in ("before", "after"))
        return f"<optc.Result of {self.report['pipeline']}: {before} -> {after} parameters>"


def optimize(
    model,
    passes=None,
    *,
    data=None,
    eval=None,
    target=None,
    keep=None,
    samples=256,
    statistics=None,
    cost=None,
    seed=0,
    threads=None,
    verify="whole",
    tolerance=None,
    input=(),
    output=None,
    example_inputs=None,
    dynamic_shapes=None,
    progress=None,
) -> Result:
    """Runs passes over a model, and gives the same kind of model with a report.

    Args:
        model: a path, bytes, an `onnx.ModelProto`, a `torch.export.ExportedProgram`, a TorchScript module, or any other
            `torch.nn.Module`, which `torch.export` exports in evaluation mode with `example_inputs` and `dynamic_shapes`.
        passes: a pipeline, such as `"red{hash=none},lrf"`; without one `"canonicalize,red"`; with `data` what is exact, then
            all lossy passes as far as 0.99 of the answers stay; with `target` or `keep` those under that.
        data: samples to calibrate on: an array `[n, ...]`, a dict of them by the names of the model's inputs, an iterable of batches
            such as a `DataLoader`, of which no more are taken than `samples` asks for, or what the command's `--data` takes, such as
            `"npz:data.npz"`. Of a batch that is a pair the second part is labels. Arrays in one piece are not copied; nobody
            may write to them until this returns. Arrays of bytes (uint8) are pixels, and are normalised as such.
        eval: data, given likewise, on which answers before and after are compared; all of it.
        target: how much is to be left, such as `"macs=0.5"`.
        keep: how much of the answers is to stay, such as `"agreement=0.99"`.
        samples: how many samples of `data` to calibrate on at most.
        statistics: a path where what is measured on them is kept, and read from where it is.
        cost: what to make smaller: `"macs"`, `"params"` or `"time"`; without one time, where `data` says how far to go and ONNX
            Runtime is found, and else multiply-adds.
        seed: the start of all random numbers.
        threads: how many; one for each core if not given.
        verify: which outputs optc compares on random inputs: `"whole"`, `"each"` (around every pass) or `"none"`.
        tolerance: the largest error that exact passes may cause.
        input: shapes of inputs, such as `["1x3x224x224"]`, where the model leaves them open.
        output: a path to write to, instead of giving the result in memory.
        progress: `True` for a line by tqdm, or a function that is called with the pass, the layer, and the fraction of the pass
            that is done. What it raises ends the run, and so does Ctrl-C.

    Raises:
        Error: one of its subclasses, or `OSError`; the text says what is wrong, where, and what to do.
    """
    settings = {
        "target": target,
        "keep": keep,
        "samples": samples,
        "statistics": None if statistics is None else os.fspath(statistics),
        "cost": cost,
        "seed": seed,
        "threads": threads or 0,
        "verify": verify,
        "tolerance": tolerance,
    }
    from . import _data

    arrays = {}
    for name, given, most in (("data", data, _with_held_out(samples)), ("eval", eval, None)):
        settings[name], arrays[name] = _data.given(given, most)
    kind = _models.kind(model, example_inputs, dynamic_shapes)
    shapes = [input] if isinstance(input, str) else list(input)
    with _models.progress_line(progress) as told:
        made, report = _optimize(
            kind.source,
            passes,
            json.dumps(settings),
            shapes,
            arrays["data"],
            arrays["eval"],
            output,
            told,
        )
    result = kind.result(made) if output is None else output
    return Result(result, json.loads(report))


def inspect(model, *, input=(), example_inputs=None, dynamic_shapes=None) -> dict[str, Any]:
    """What is in a model, given as to `optimize`: its inputs and outputs, operators, and layers with their cost."""
    kind = _models.kind(model, example_inputs, dynamic_shapes)
    shapes = [input] if isinstance(input, str) else list(input)
    return json.loads(_inspect(kind.source, shapes))
