"""The kinds of models that are taken: each as bytes or a path, and back from bytes."""
from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from typing import Any, Callable

from ._optc import UsageError


@dataclass(frozen=True)
class Kind:
    """A model as bytes or a path, and what makes its kind of bytes."""

    source: Any
    result: Callable[[bytes], Any]


def kind(model, example_inputs=None, dynamic_shapes=None) -> Kind:
    """What kind of model it is. Nothing is imported for it: a model of a library's means that the library is there."""
    if isinstance(model, bytes):
        return Kind(model, _same)
    if isinstance(model, (bytearray, memoryview)):
        return Kind(bytes(model), _same)
    if isinstance(model, (str, os.PathLike)):
        return Kind(os.fspath(model), _same)
    onnx, torch = sys.modules.get("onnx"), sys.modules.get("torch")
    if onnx is not None and isinstance(model, onnx.ModelProto):
        return Kind(model.SerializeToString(), type(model).FromString)
    if torch is not None:
        found = _of_torch(torch, model, example_inputs, dynamic_shapes)
        if found is not None:
            return found
    raise UsageError(
        f"a {type(model).__name__} is no model that optc takes\n"
        "  give a path, bytes, an onnx.ModelProto, a torch.export.ExportedProgram, or a torch.nn.Module with example_inputs"
    )


def _of_torch(torch, model, example_inputs, dynamic_shapes) -> Kind | None:
    if isinstance(model, torch.jit.ScriptModule):
        return Kind(_saved(torch.jit.save, model), lambda made: torch.jit.load(io.BytesIO(made)))
    if isinstance(model, torch.export.ExportedProgram):
        return Kind(_saved(torch.export.save, model), lambda made: torch.export.load(io.BytesIO(made)))
    if isinstance(model, torch.nn.Module):
        if example_inputs is None:
            raise UsageError(
                "a module has to be exported first, for which it takes inputs\n"
                "  give example_inputs=(x,), and dynamic_shapes where sizes are to stay free"
            )
        program = exported(torch, model, tuple(example_inputs), dynamic_shapes)
        saved = _saved(torch.export.save, program)
        return Kind(saved, lambda made: torch.export.load(io.BytesIO(made)).module())
    return None


def exported(torch, module, example_inputs, dynamic_shapes=None):
    """The module in evaluation mode as an ExportedProgram; the mode is then what it was."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            return torch.export.export(module, example_inputs, dynamic_shapes=dynamic_shapes)
    finally:
        for part, training in modes:
            part.training = training


def _saved(save, model) -> bytes:
    out = io.BytesIO()
    save(model, out)
    return out.getvalue()


def _same(made: bytes) -> bytes:
    return made


@contextlib.contextmanager
def progress_line(progress):
    """The function to be told how a run goes on; a line of tqdm's for True."""
    if progress is not True:
        yield progress or None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise UsageError("progress=True takes tqdm\n  pip install tqdm, or give a function") from error
    with tqdm(total=100, unit="%", bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed}") as bar:

        def told(pass_name, layer, fraction):
            bar.set_description_str(f"{pass_name} {layer}".strip(), refresh=False)
            bar.n = 100 * fraction
            bar.refresh()

        yield told
