#!/usr/bin/env python3
"""Makes small ONNX models of random nodes that compute sizes, and says what these compute.

    onnx_folds.py OUT SEED COUNT [NODES]

Writes OUT/I.onnx and OUT/I.json. A model takes `x` of shape [n,3,h,w]; each of its `Pad` nodes pads a tensor by what one of the
random nodes computes. The text has the sizes for which that was worked out, and for each pad the operator and the amounts under
these sizes, as ONNX's reference evaluator computes them. Where ONNX Runtime, if it is installed, computes something else, the
node is left out: nothing can be said about it.
"""
import json
import pathlib
import random
import sys
import warnings

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

warnings.filterwarnings("ignore")
np.seterr(all="ignore")

SIZES = [{"n": 1, "h": 5, "w": 8}, {"n": 3, "h": 12, "w": 1}, {"n": 2, "h": 7, "w": 31}]
TYPES = {np.dtype(np.int64): 7, np.dtype(np.int32): 6, np.dtype(np.float32): 1, np.dtype(np.bool_): 9}
MOST = 6  # the longest list that is looked at


class Maker:
    """One model: what there is so far, with what it holds under each of the sizes."""

    def __init__(self, rng: random.Random, opset: int):
        self.rng, self.opset = rng, opset
        self.nodes, self.weights, self.values, self.probes = [], [], {}, []
        self.known = set()
        self.values["x"] = [np.zeros((s["n"], 3, s["h"], s["w"]), np.float32) for s in SIZES]

    def constant(self, array) -> str:
        """A tensor of the file, as an initializer or as a node."""
        array = np.asarray(array)
        name = f"c{len(self.values)}"
        self.values[name] = [array] * len(SIZES)
        tensor = numpy_helper.from_array(array, name)
        if self.rng.random() < 0.5:
            self.weights.append(tensor)
        else:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def ints(self, *values) -> str:
        return self.constant(np.array(values, np.int64))

    def number(self, dtype):
        if dtype == np.bool_:
            return self.rng.random() < 0.5
        if dtype == np.float32:
            return self.rng.choice([0.0, -0.0, 0.5, -0.5, 1.0, 2.0, -1.5, 0.25, 0.3, 1e-3, 4.0, -7.25, 100.0])
        return self.rng.choice([0, 1, 2, 3, 4, 8, -1, -2, -3, -7, 5, 100, -100])

    def fresh(self, dtype) -> str:
        shape = [self.rng.choice([1, 1, 2, 3, 0]) for _ in range(self.rng.choice([0, 0, 1, 1, 1, 2, 3]))]
        count = int(np.prod(shape))
        return self.constant(np.array([self.number(dtype) for _ in range(count)], dtype).reshape(shape))

    def pick(self, dtypes, rank=None, like=None) -> str:
        """A value of one of these types; new ones now and then."""
        def fits(name):
            arrays = self.values[name]
            return name != "x" and arrays[0].dtype in dtypes and (rank is None or arrays[0].ndim >= rank)
        names = [name for name in self.values if fits(name)]
        if like is not None:
            dtypes = [self.values[like][0].dtype]
            names = [name for name in names if self.values[name][0].dtype == dtypes[0]]
        recent = names[-12:]
        if recent and self.rng.random() < 0.8:
            return self.rng.choice(recent)
        return self.fresh(self.rng.choice(list(dtypes)))

    def run(self, node) -> bool:
        """Adds a node, if it means the same to all that run it."""
        inputs = [name for name in dict.fromkeys(node.input) if name]
        if node.op_type in ("Div", "Mod"):  # dividing by 0 ends the process
            divisors = self.values[node.input[1]]
            if any(a.dtype != np.float32 and not np.all(a) for a in divisors):
                return False
        if node.op_type == "Range" and any(np.any(np.abs(a) > 99) for a in self.values[node.input[1]]):
            return False
        described = [helper.make_tensor_value_info(i, TYPES[self.values[i][0].dtype], None) for i in inputs]
        out = helper.make_tensor_value_info(node.output[0], 0, None)
        out.ClearField("type")
        graph = helper.make_graph([node], "one", described, [out])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        try:
            evaluator = ReferenceEvaluator(model)
            results = [np.asarray(evaluator.run(None, self.feed(inputs, i))[0]) for i in range(len(SIZES))]
        except Exception:
            return False
        if any(r.dtype not in TYPES or r.size > 64 or r.ndim > 4 for r in results):
            return False
        if onnxruntime is not None:
            try:
                graph.output[0].CopyFrom(helper.make_tensor_value_info(node.output[0], TYPES[results[0].dtype], None))
                model.graph.CopyFrom(graph)
                options = onnxruntime.SessionOptions()
                options.log_severity_level, options.intra_op_num_threads = 4, 1
                options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
                session = onnxruntime.InferenceSession(
                    model.SerializeToString(), options, providers=["CPUExecutionProvider"])
                for i, result in enumerate(results):
                    other = np.asarray(session.run(None, self.feed(inputs, i))[0])
                    if other.shape != result.shape or other.tobytes() != result.tobytes():
                        return False
            except Exception:
                return False
        self.nodes.append(node)
        self.values[node.output[0]] = results
        return True

    def feed(self, inputs, i):
        return {name: self.values[name][i] for name in inputs}

    def axes(self, rank) -> list:
        rank = max(rank, 1)
        axes = self.rng.sample(range(rank), self.rng.randint(1, min(rank, 2)))
        return [axis - rank if self.rng.random() < 0.3 else axis for axis in axes]

    def add(self):
        """Tries to add one random node, and a pad that shows what it computes."""
        rng = self.rng
        ints = [np.dtype(np.int64), np.dtype(np.int64), np.dtype(np.int32)]
        floats = [np.dtype(np.float32)]
        bools = [np.dtype(np.bool_)]
        numbers, every = ints + floats, ints + floats + bools
        rank = lambda name: self.values[name][0].ndim
        op = rng.choice(OPERATORS)
        attributes, inputs = {}, []
        if op in ("Shape", "Size"):
            inputs = [rng.choice(["x", "x", "x", self.pick(every)])]
            if op == "Shape" and self.opset >= 15:
                for key in ("start", "end"):
                    if rng.random() < 0.4:
                        attributes[key] = rng.randint(-5, 5)
        elif op in ("Identity", "Transpose", "Flatten"):
            inputs = [self.pick(every)]
            if op == "Transpose" and rng.random() < 0.7:
                attributes["perm"] = rng.sample(range(rank(inputs[0])), rank(inputs[0]))
            if op == "Flatten" and rng.random() < 0.7:
                attributes["axis"] = rng.randint(-rank(inputs[0]), rank(inputs[0]))
        elif op == "Cast":
            inputs = [self.pick(every)]
            attributes["to"] = rng.choice([7, 6, 1, 9])
        elif op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mod", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
            first = self.pick(every if op == "Equal" else numbers)
            inputs = [first, self.pick(every, like=first)]
            if rng.random() < 0.3:
                inputs.reverse()
            if op == "Mod" and rng.random() < 0.3:
                attributes["fmod"] = 1
            if op in ("Max", "Min") and rng.random() < 0.2:
                inputs = inputs[:1] if rng.random() < 0.5 else inputs + [self.pick(every, like=first)]
        elif op in ("And", "Or", "Xor"):
            inputs = [self.pick(bools), self.pick(bools)]
        elif op == "Not":
            inputs = [self.pick(bools)]
        elif op in ("Neg", "Abs", "Sign"):
            inputs = [self.pick(numbers)]
        elif op in ("Floor", "Ceil", "Round", "Sqrt", "Reciprocal"):
            inputs = [self.pick(floats)]
        elif op == "Where":
            side = self.pick(numbers)
            inputs = [self.pick(bools), side, self.pick(every, like=side)]
        elif op == "Range":
            inputs = [self.constant(np.int64(rng.randint(-6, 6))), self.pick(ints[:1], 0), self.constant(np.int64(rng.choice([1, 2, -1, -2])))]
        elif op == "ConstantOfShape":
            inputs = [self.ints(*[rng.randint(0, 3) for _ in range(rng.randint(0, 3))])]
            if rng.random() < 0.8:
                dtype = rng.choice(every)
                attributes["value"] = numpy_helper.from_array(np.array([self.number(dtype)], dtype))
        elif op == "Expand":
            inputs = [self.pick(every), self.ints(*[rng.choice([1, 1, 2, 3, 0]) for _ in range(rng.randint(0, 3))])]
        elif op == "Concat":
            first = self.pick(every, 1)
            inputs = [first] + [self.pick(every, 1, like=first) for _ in range(rng.randint(0, 2))]
            attributes["axis"] = rng.randint(-rank(first), max(rank(first) - 1, 0))
        elif op == "Gather":
            x = self.pick(every, 1)
            axis = rng.randint(-rank(x), max(rank(x) - 1, 0))
            if rng.random() < 0.7 or axis:
                attributes["axis"] = axis
            shape = [rng.randint(0, 2) for _ in range(rng.randint(0, 2))]
            index = np.array([rng.randint(-2, 2) for _ in range(int(np.prod(shape)))], rng.choice(ints)).reshape(shape)
            inputs = [x, self.constant(index)]
        elif op == "Slice":
            x = self.pick(every, 1)
            axes = self.axes(rank(x))
            bound = lambda: rng.choice([0, 1, 2, 3, -1, -2, -4, 5, 2**63 - 1, -(2**63), 2**31 - 1])
            lists = [[bound() for _ in axes], [bound() for _ in axes], axes, [rng.choice([1, 1, 2, -1, -2]) for _ in axes]]
            if rng.random() < 0.3:
                lists = [lists[0][:1], lists[1][:1]]
            if self.opset < 10:
                attributes = dict(zip(("starts", "ends", "axes"), lists))
                inputs = [x]
            else:
                inputs = [x] + [self.ints(*list_) for list_ in lists[: rng.choice([2, 3, 4])]]
        elif op == "Reshape":
            inputs = [self.pick(every), self.ints(*[rng.choice([-1, -1, 0, 1, 2, 3]) for _ in range(rng.randint(0, 3))])]
            if self.opset >= 14 and rng.random() < 0.3:
                attributes["allowzero"] = 1
        else:  # with axes, as an attribute or as an operand
            inputs = [self.pick(ints + floats if op.startswith("Reduce") else every)]
            since = 13 if op in ("Squeeze", "Unsqueeze", "ReduceSum") else 18
            axes = self.axes(rank(inputs[0]) + (op == "Unsqueeze"))
            if op == "Unsqueeze" or rng.random() < 0.7:
                if self.opset < since:
                    attributes["axes"] = axes
                else:
                    inputs.append(self.ints(*(axes if rng.random() < 0.9 else [])))
            if op.startswith("Reduce") and rng.random() < 0.5:
                attributes["keepdims"] = rng.randint(0, 1)
            if op.startswith("Reduce") and self.opset >= since and rng.random() < 0.2:
                attributes["noop_with_empty_axes"] = 1
        name = f"v{len(self.values)}"
        node = helper.make_node(op, inputs, [name])
        for key, value in attributes.items():
            kind = onnx.AttributeProto.INTS if isinstance(value, list) else None
            node.attribute.append(helper.make_attribute(key, value, attr_type=kind))
        if self.run(node):
            self.probe(op, name)

    def probe(self, op: str, name: str):
        """Pads a tensor by what a node computes."""
        arrays = self.values[name]
        shapes = {a.shape for a in arrays}
        size = arrays[0].size
        if len(shapes) > 1 or not 0 < size <= MOST:
            return
        if any(not np.all(np.isfinite(a.astype(np.float64))) or np.any(np.abs(a.astype(np.float64)) > 1e6) for a in arrays):
            return
        mark, value = f"p{len(self.probes)}", name
        steps, expected = [], arrays
        if arrays[0].dtype == np.float32:
            steps.append(("Mul", [value, self.constant(np.float32(8))], {}))
            expected = [np.trunc(a * np.float32(8)) for a in expected]
        if arrays[0].dtype != np.int64:
            steps.append(("Cast", [None], {"to": 7}))
        steps.append(("Reshape", [None, self.ints(-1)], {}))
        steps.append(("Concat", [None, self.ints(*[0] * size)], {"axis": 0}))
        for i, (kind, inputs, attributes) in enumerate(steps):
            out = f"{mark}/{i}"
            self.nodes.append(helper.make_node(kind, [n or value for n in inputs], [out], **attributes))
            value = out
        self.nodes.append(helper.make_node("Pad", [f"z{size}", value], [mark]))
        self.known.add(size)
        self.probes.append({"op": op, "amounts": [[int(n) for n in a.ravel()] for a in expected], "shape": list(arrays[0].shape)})

    def model(self):
        x = helper.make_tensor_value_info("x", 1, ["n", 3, "h", "w"])
        padded = [helper.make_tensor_value_info(f"z{k}", 1, [f"z{k}_{i}" for i in range(k)]) for k in sorted(self.known)]
        outputs = [helper.make_tensor_value_info(f"p{i}", 1, None) for i in range(len(self.probes))]
        graph = helper.make_graph(self.nodes, "folds", [x, *padded], outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


OPERATORS = """Shape Shape Shape Size Identity Transpose Flatten Cast Cast Add Sub Mul Mul Div Div Max Min Mod Equal Less Greater
LessOrEqual GreaterOrEqual And Or Xor Not Neg Neg Abs Sign Floor Ceil Round Sqrt Reciprocal Where Range ConstantOfShape Expand
Concat Concat Gather Gather Slice Slice Reshape Squeeze Unsqueeze ReduceProd ReduceSum ReduceMax ReduceMin""".split()


def main(out: pathlib.Path, seed: int, count: int, nodes: int = 60) -> None:
    for i in range(count):
        rng = random.Random(seed * 1_000_003 + i)
        maker = Maker(rng, rng.choice([11, 12, 13, 17, 18, 20]))
        for _ in range(nodes):
            maker.add()
        (out / f"{i}.onnx").write_bytes(maker.model().SerializeToString())
        (out / f"{i}.json").write_text(json.dumps({"sizes": SIZES, "pads": maker.probes}))


main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
