from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Generic, Literal, TypeVar, overload

import numpy.typing as npt

from ._optc import (
    DataError as DataError,
    Error as Error,
    ModelError as ModelError,
    PassError as PassError,
    UsageError as UsageError,
    VerificationError as VerificationError,
)

__version__: str

_Model = TypeVar("_Model")
_Array = npt.NDArray[Any] | Any
_Data = _Array | Mapping[str, _Array] | Iterable[Any] | str | PathLike[str] | None
_Progress = bool | Callable[[str, str, float], object] | None
_Path = str | PathLike[str]

@dataclass(frozen=True)
class Result(Generic[_Model]):
    model: _Model
    report: dict[str, Any]

@overload
def optimize(
    model: _Path,
    passes: str | None = ...,
    *,
    data: _Data = ...,
    eval: _Data = ...,
    target: str | None = ...,
    keep: str | None = ...,
    samples: int = ...,
    statistics: _Path | None = ...,
    cost: Literal["macs", "params", "time"] | None = ...,
    seed: int = ...,
    threads: int | None = ...,
    verify: Literal["whole", "each", "none"] = ...,
    tolerance: float | None = ...,
    input: str | Sequence[str] = ...,
    output: None = ...,
    example_inputs: Sequence[Any] | None = ...,
    dynamic_shapes: Any = ...,
    progress: _Progress = ...,
) -> Result[bytes]: ...
@overload
def optimize(
    model: Any,
    passes: str | None = ...,
    *,
    data: _Data = ...,
    eval: _Data = ...,
    target: str | None = ...,
    keep: str | None = ...,
    samples: int = ...,
    statistics: _Path | None = ...,
    cost: Literal["macs", "params", "time"] | None = ...,
    seed: int = ...,
    threads: int | None = ...,
    verify: Literal["whole", "each", "none"] = ...,
    tolerance: float | None = ...,
    input: str | Sequence[str] = ...,
    output: _Path,
    example_inputs: Sequence[Any] | None = ...,
    dynamic_shapes: Any = ...,
    progress: _Progress = ...,
) -> Result[_Path]: ...
@overload
def optimize(
    model: _Model,
    passes: str | None = ...,
    *,
    data: _Data = ...,
    eval: _Data = ...,
    target: str | None = ...,
    keep: str | None = ...,
    samples: int = ...,
    statistics: _Path | None = ...,
    cost: Literal["macs", "params", "time"] | None = ...,
    seed: int = ...,
    threads: int | None = ...,
    verify: Literal["whole", "each", "none"] = ...,
    tolerance: float | None = ...,
    input: str | Sequence[str] = ...,
    output: None = ...,
    example_inputs: Sequence[Any] | None = ...,
    dynamic_shapes: Any = ...,
    progress: _Progress = ...,
) -> Result[_Model]: ...
def inspect(
    model: Any,
    *,
    input: str | Sequence[str] = ...,
    example_inputs: Sequence[Any] | None = ...,
    dynamic_shapes: Any = ...,
) -> dict[str, Any]: ...
