"""The backend `optc` of `torch.compile`: graphs are optimised, then handed on to another backend.

    smaller = torch.compile(model.eval(), backend="optc", options={"passes": "red{hash=none}", "inner": "eager"})
    with torch.no_grad():
        smaller(x)

`options` are those of `optc.optimize`, and `inner`, the backend that gets the result: "inductor" if nothing else is said. Weights become
constants, so this is for inference: a graph that is to be differentiated, or has free sizes, goes to the inner backend as it is.
"""
from __future__ import annotations

import copy
import warnings

import torch

from . import optimize
from ._models import exported


def backend(graph_module, example_inputs, *, options=None):
    """What Dynamo calls with a graph and inputs for it; gives what runs it."""
    options = dict(options or {})
    inner = options.pop("inner", "inductor")
    why = _unfit(example_inputs)
    if why is not None:
        warnings.warn(f"optc leaves a graph as it is: {why}", stacklevel=2)
        return torch._dynamo.lookup_backend(inner)(graph_module, example_inputs)
    frozen, live = _frozen(graph_module, example_inputs)
    program = exported(torch, frozen, tuple(example_inputs[i] for i in live))
    smaller = optimize(program, **options)
    run = _handed_on(smaller.model, inner, example_inputs, live)
    run.report = smaller.report
    return run


def _handed_on(program, inner, example_inputs, live):
    """What runs the program as the inner backend compiles it.

    It gets what Dynamo gives: a graph whose weights are inputs. `torch.compile` is of no use here, since Dynamo compiles nothing
    that is called while what it compiled runs.
    """
    held = {**program.state_dict, **program.constants}
    kinds = torch.export.graph_signature.InputKind
    positions = iter(live)
    # Weights as they are, and for an input its position.
    given = [
        next(positions) if spec.kind == kinds.USER_INPUT else held[spec.target].detach()
        for spec in program.graph_signature.input_specs
    ]

    def all_inputs(inputs):
        return [inputs[value] if isinstance(value, int) else value for value in given]

    compiled = torch._dynamo.lookup_backend(inner)(program.graph_module, all_inputs(example_inputs))

    def run(*inputs):
        return compiled(*all_inputs(inputs))

    return run


def _unfit(example_inputs) -> str | None:
    if torch.is_grad_enabled() and any(_requires_grad(value) for value in example_inputs):
        return "it is to be differentiated; call it under torch.no_grad()"
    if any(not isinstance(value, torch.Tensor) for value in example_inputs):
        return "it has free sizes; compile with dynamic=False"
    return None


def _requires_grad(value) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad


def _frozen(graph_module, example_inputs):
    """The graph with its parameters and buffers as attributes, and the positions of what is left as inputs.

    Dynamo makes inputs of them, so that a module may change without a new graph.
    """
    graph = copy.deepcopy(graph_module.graph)
    frozen = torch.fx.GraphModule(graph_module, graph)
    live = []
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    for position, (node, value) in enumerate(zip(placeholders, example_inputs)):
        if not _is_state(value):
            live.append(position)
            continue
        name = f"state_{position}"
        if isinstance(value, torch.nn.Parameter):
            frozen.register_parameter(name, value)
        else:
            frozen.register_buffer(name, value)
        with graph.inserting_before(node):
            attribute = graph.get_attr(name)
        node.replace_all_uses_with(attribute)
        graph.erase_node(node)
    frozen.recompile()
    return frozen, live


def _is_state(value) -> bool:
    # Dynamo marks what modules own, parameters and buffers alike.
    marked = getattr(value, "_dynamo_static_input_type", None) is not None
    return marked or isinstance(value, torch.nn.Parameter)
