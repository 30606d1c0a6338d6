"""Samples as they are given: arrays, batches of them, or text for the library."""
from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from ._optc import DataError

# The names that arrays have where nobody has named them: the only input's, and the labels'.
X, Y = "x", "y"


def given(data, most):
    """Text for the settings, or arrays by name: one of both is None. No more than `most` samples are taken of what is iterated over."""
    if data is None:
        return None, None
    if isinstance(data, (str, os.PathLike)):
        return _text(os.fspath(data)), None
    if isinstance(data, Mapping):
        named = data
    elif _is_array(data):
        named = {X: data}
    elif isinstance(data, Iterable):
        named = _collected(data, most)
    else:
        raise DataError(f"a {type(data).__name__} is no data\n  give arrays, a dict of them, or an iterable of batches")
    return None, [(name, _array(value)) for name, value in named.items()]


def _text(text: str) -> str:
    """A specification; of a path with a suffix of NumPy's or safetensors the kind is plain."""
    for kind in ("npz", "npy", "safetensors"):
        if text.endswith(f".{kind}") and not text.startswith(f"{kind}:"):
            return f"{kind}:{text}"
    return text


def _is_array(value) -> bool:
    return hasattr(value, "__array_interface__") or _is_tensor(value)


def _is_tensor(value) -> bool:
    return hasattr(value, "detach") and hasattr(value, "numpy")


def _array(value):
    """An array of NumPy's in one piece: the same one where it is that already."""
    import numpy

    if _is_tensor(value):
        value = value.detach().cpu().numpy()
    return numpy.ascontiguousarray(value)


def _named(batch) -> dict:
    """The arrays of a batch: by name, or inputs and perhaps labels."""
    if isinstance(batch, Mapping):
        return dict(batch)
    if isinstance(batch, (tuple, list)) and batch and _is_array(batch[0]):
        if len(batch) == 1:
            return {X: batch[0]}
        if len(batch) == 2 and _is_array(batch[1]):
            return {X: batch[0], Y: batch[1]}
    elif _is_array(batch):
        return {X: batch}
    raise DataError(
        "a batch is none that can be taken\n"
        "  give an array, a pair of inputs and labels, or for several inputs a dict of arrays by their names"
    )


def _collected(batches, most) -> dict:
    """As many batches as hold `most` samples, as one array for each name."""
    import numpy

    columns: dict = {}
    count = 0
    for batch in batches:
        for name, value in _named(batch).items():
            columns.setdefault(name, []).append(_array(value))
        count += len(next(reversed(columns.values()))[-1])
        if most is not None and count >= most:
            break
    if not columns:
        raise DataError("there are no batches\n  an iterator that was used up gives none")
    return {name: numpy.concatenate(parts) for name, parts in columns.items()}
