from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Generic, Literal, TypeVar, overload

import numpy.typing as npt

__version__: str

Model = TypeVar("Model")
Array = npt.NDArray[Any] | Any
Data = Array | Mapping[str, Array] | Iterable[Any] | str | PathLike[str] | None
Progress = bool | Callable[[str, str, float], object] | None
Path = str | PathLike[str]

class Error(Exception): ...
class UsageError(Error): ...
class ModelError(Error): ...
class DataError(Error): ...
class PassError(Error): ...
class VerificationError(Error): ...

class Result(Generic[Model]):
    @property
    def model(self) -> Model: ...
    @property
    def report(self) -> dict[str, Any]: ...

@overload
def optimize(
    model: Path,
    passes: str | None = ...,
    *,
    data: Data = ...,
    eval: Data = ...,
    target: str | None = ...,
    keep: str | None = ...,
    samples: int = ...,
    cost: Literal["macs", "params", "time"] = ...,
    seed: int = ...,
    threads: int | None = ...,
    verify: Literal["whole", "each", "none"] = ...,
    tolerance: float | None = ...,
    input: str | Sequence[str] = ...,
    output: None = ...,
    example_inputs: Sequence[Any] | None = ...,
    dynamic_shapes: Any = ...,
    progress: Progress = ...,
) -> Result[bytes]: ...
@overload
def optimize(
    model: Any,
    passes: str | None = ...,
    *,
    data: Data = ...,
    eval: Data = ...,
    target: str | None = ...,
    keep: str | None = ...,
    samples: int = ...,
    cost: Literal["macs", "params", "time"] = ...,
    seed: int = ...,
    threads: int | None = ...,
    verify: Literal["whole", "each", "none"] = ...,
    tolerance: float | None = ...,
    input: str | Sequence[str] = ...,
    output: Path,
    example_inputs: Sequence[Any] | None = ...,
    dynamic_shapes: Any = ...,
    progress: Progress = ...,
) -> Result[Path]: ...
@overload
def optimize(
    model: Model,
    passes: str | None = ...,
    *,
    data: Data = ...,
    eval: Data = ...,
    target: str | None = ...,
    keep: str | None = ...,
    samples: int = ...,
    cost: Literal["macs", "params", "time"] = ...,
    seed: int = ...,
    threads: int | None = ...,
    verify: Literal["whole", "each", "none"] = ...,
    tolerance: float | None = ...,
    input: str | Sequence[str] = ...,
    output: None = ...,
    example_inputs: Sequence[Any] | None = ...,
    dynamic_shapes: Any = ...,
    progress: Progress = ...,
) -> Result[Model]: ...
def inspect(
    model: Any,
    *,
    input: str | Sequence[str] = ...,
    example_inputs: Sequence[Any] | None = ...,
    dynamic_shapes: Any = ...,
) -> dict[str, Any]: ...
