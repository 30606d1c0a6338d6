"""The pass `OptcPass` of Olive, Microsoft's pass manager for ONNX: what `optc.optimize` does, with a budget that Olive may search over.

    olive run --config run.json --package-config "$(python -m optc.olive)"

where `run.json` has among its passes

    "optc": {"type": "OptcPass", "target": ["macs=0.8", "macs=0.6"], "data_config": "calibration"}

A list is searched over if the run has a `search_strategy`, as Olive's evaluators judge; a single value is taken. Olive knows no passes but
those of the file that it is given: `python -m optc.olive passes.json` writes one that has Olive's own too.
"""
from __future__ import annotations

import json
import logging
import pathlib
import sys
from typing import Union

from olive.common.utils import format_data
from olive.data.config import DataConfig
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.passes import Pass
from olive.passes.pass_config import PassConfigParam
from olive.search.search_parameter import Categorical, Conditional

from . import optimize

logger = logging.getLogger(__name__)

# What is searched where the run says no goal of its own.
TARGETS = ["macs=0.9", "macs=0.8", "macs=0.7", "macs=0.5"]
# What `flops` is for without a pipeline, and how a pipeline refers to it.
BY_FLOPS, FLOPS = "canonicalize,red{hash=kernel,flops=$flops}", "$flops"
# Parameters that go to `optimize` as they are.
PLAIN = ["target", "keep", "samples", "seed", "statistics", "verify", "tolerance"]


class OptcPass(Pass):
    """Makes an ONNX model smaller and faster by optc's graph passes, exactly or within a budget."""

    @classmethod
    def _default_config(cls, accelerator_spec) -> dict[str, PassConfigParam]:
        return {**_budget(), **_settings()}

    @classmethod
    def validate_config(cls, config, accelerator_spec) -> bool:
        """Whether the parameters go together; Olive drops a point of its search where not."""
        why = _contradiction(config)
        if why is not None:
            logger.warning("OptcPass: %s", why)
        return why is None

    def _run_for_config(self, model, config, output_model_path):
        if not isinstance(model, ONNXModelHandler):
            raise NotImplementedError(f"OptcPass takes ONNX models, not {type(model).__name__}; convert with OnnxConversion first")
        output = pathlib.Path(resolve_onnx_path(output_model_path))
        output.parent.mkdir(parents=True, exist_ok=True)
        report = optimize(
            model.model_path,
            _pipeline(config),
            data=_samples(model, config),
            cost=config.cost,
            threads=config.threads,
            input=config.input or (),
            output=output,
            **{name: getattr(config, name) for name in PLAIN},
        ).report
        return _handler(model, output, report)


def _budget() -> dict[str, PassConfigParam]:
    """What is run, and how far it goes: one of the last three at most."""
    # A list is taken for values to search over only where a parameter has some by default, if but one.
    none = Categorical([None])
    without_goal = Conditional(
        parents=("passes", "flops", "keep"), support={(None, None, None): Categorical(TARGETS)}, default=none
    )
    return {
        "passes": PassConfigParam(
            type_=str,
            default_value=None,
            search_defaults=none,
            description=f"A pipeline such as 'canonicalize,red{{hash=none}}'; {FLOPS} in it is what `flops` says. Without one what"
            " `optc.optimize` does: exact passes and red, or all lossy passes as far as the goal or the data allow.",
        ),
        "target": PassConfigParam(
            type_=str,
            default_value=None,
            search_defaults=without_goal,
            description="How much is to be left, such as 'macs=0.5', 'params=0.8' or 'time=0.7'.",
        ),
        "keep": PassConfigParam(
            type_=str,
            default_value=None,
            search_defaults=none,
            description="How much of the answers is to stay on the data, such as 'agreement=0.99' or 'cosine=0.995'.",
        ),
        "flops": PassConfigParam(
            type_=float,
            default_value=None,
            search_defaults=none,
            description=f"The fraction of the multiply-adds to keep, put in the place of {FLOPS} in `passes`; without `passes` by"
            f" '{BY_FLOPS}'.",
        ),
    }


def _settings() -> dict[str, PassConfigParam]:
    def parameter(type_, default, description):
        return PassConfigParam(type_=type_, default_value=default, description=description)

    return {
        "data_config": parameter(Union[DataConfig, dict], None, "Samples to calibrate on, as for Olive's quantization."),
        "data": parameter(str, None, "Instead of `data_config`: what optc's --data takes, such as 'npz:samples.npz'."),
        "samples": parameter(int, 256, "How many samples to calibrate on at most."),
        "statistics": parameter(str, None, "A path where what is measured on the samples is kept, for all points of a search."),
        "cost": parameter(str, None, "What to make smaller: 'macs', 'params' or 'time'."),
        "seed": parameter(int, 0, "The start of all random numbers."),
        "threads": parameter(int, None, "How many threads; one for each core if not given."),
        "verify": parameter(str, "whole", "What optc compares on random inputs: 'whole', 'each' (around every pass) or 'none'."),
        "tolerance": parameter(float, None, "The largest error that exact passes may cause."),
        "input": parameter(list[str], None, "Shapes of inputs, such as ['1x3x224x224'], where the model leaves them open."),
    }


def _contradiction(config) -> str | None:
    given = [name for name in ("target", "keep", "flops") if getattr(config, name) is not None]
    if len(given) > 1:
        return f"{' and '.join(given)} are each a goal; give one"
    if config.passes is not None and (FLOPS in config.passes) != (config.flops is not None):
        return f"`flops` and {FLOPS} in `passes` go together"
    if config.data is not None and config.data_config is not None:
        return "give `data` or `data_config`"
    return None


def _pipeline(config) -> str | None:
    if config.flops is None:
        return config.passes
    return (config.passes or BY_FLOPS).replace(FLOPS, str(config.flops))


def _samples(model, config):
    """Batches of arrays by the names of the model's inputs, in their types; or what names data."""
    if config.data_config is None:
        return config.data
    data = config.data_config
    container = (DataConfig.model_validate(data) if isinstance(data, dict) else data).to_data_container()
    inputs = model.io_config
    batches = (batch[0] if isinstance(batch, (list, tuple)) and len(batch) == 2 else batch for batch in container.create_dataloader())
    return (format_data(batch, inputs) for batch in batches)


def _handler(model, output: pathlib.Path, report: dict) -> ONNXModelHandler:
    """The result for Olive: a folder where weights are in files beside it, as they were for the model."""
    alone = sum(1 for _ in output.parent.iterdir()) == 1
    said = {"pipeline": report["pipeline"]}
    for when in ("before", "after"):
        said[when] = {name: report[when].get(name) for name in ("params", "macs")}
    return ONNXModelHandler(
        model_path=str(output if alone else output.parent),
        onnx_file_name=None if alone else output.name,
        inference_settings=model.inference_settings,
        use_ort_extensions=model.use_ort_extensions,
        model_attributes={**(model.model_attributes or {}), "optc": said},
    )


def package_config(with_olive: bool = True) -> dict:
    """What tells Olive where the pass is, for `olive.run(.., package_config=..)`; with Olive's own passes too."""
    ours = json.loads(pathlib.Path(PACKAGE_CONFIG).read_text())
    if not with_olive:
        return ours
    from olive.package_config import OlivePackageConfig

    olives = json.loads(pathlib.Path(OlivePackageConfig.get_default_config_path()).read_text())
    return {**olives, "passes": {**olives["passes"], **ours["passes"]}}


# The file that tells Olive where this pass is, and no other.
PACKAGE_CONFIG = str(pathlib.Path(__file__).with_name("olive_config.json"))


def main() -> None:
    """Prints the path of a package configuration: ours, or the one that is written if a path is given."""
    if len(sys.argv) > 1:
        pathlib.Path(sys.argv[1]).write_text(json.dumps(package_config(), indent=4) + "\n")
    print(sys.argv[1] if len(sys.argv) > 1 else PACKAGE_CONFIG)


if __name__ == "__main__":
    main()
