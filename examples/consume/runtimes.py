#!/usr/bin/env python3
"""What compiles and runs models: for each consumer a function that opens a file, and gives a function that runs it once.

    runtimes.py versions NAME                          whether it is installed, and in which versions
    runtimes.py run NAME INPUTS.npz FILE OUT.npz       opens and runs a file, and writes what it computes
    runtimes.py time NAME INPUTS.npz SECONDS FILE..    times files in turns, with one thread

Prints a line of JSON. Each runs in a process of its own, since compilers crash; nothing is imported but what the consumer needs.
"""
import collections
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

Consumer = collections.namedtuple("Consumer", "label formats packages load")


def reference(path, inputs, scratch):
    """What a file computes for who knows it best: ONNX Runtime without its optimisations, or PyTorch as it is."""
    return onnx_runtime(path, inputs, scratch, plain=True) if path.suffix == ".onnx" else torch_eager(path, inputs)


def onnx_runtime(path, inputs, scratch, plain=False):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)


def openvino(path, inputs, scratch):
    import openvino

    given = [openvino.PartialShape(x.shape) for x in inputs.values()]
    if path.suffix == ".onnx":
        model = openvino.Core().read_model(path)
        model.reshape(dict(zip(inputs, given)))
    else:
        model = openvino.convert_model(torch_file(path), example_input=tuple(tensors(inputs)), input=given)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    request = openvino.compile_model(model, "CPU", settings).create_infer_request()
    arrays = list(inputs.values())
    return lambda: list(request.infer(arrays).values())


def iree(path, inputs, scratch):
    import iree.compiler
    import iree.runtime

    importer = pathlib.Path(sys.executable).with_name("iree-import-onnx")
    fixed(path, inputs, scratch / "fixed.onnx")
    subprocess.run([importer, scratch / "fixed.onnx", "-o", scratch / "model.mlir", "--opset-version", "17"], check=True)
    options = ["--iree-llvmcpu-target-cpu=host", "--iree-opt-level=O3"]
    made = iree.compiler.compile_file(
        str(scratch / "model.mlir"), target_backends=["llvm-cpu"], input_type="onnx", extra_args=options
    )
    module = iree.runtime.load_vm_flatbuffer(made, driver="local-sync")
    # Each function is there once more, for who waits elsewhere.
    (name,) = (name for name in module.vm_module.function_names if name[0] != "_" and not name.endswith("$async"))
    arrays = list(inputs.values())
    return lambda: module[name](*arrays)


def tvm(path, inputs, scratch):
    import tvm
    from tvm import relax

    if path.suffix == ".onnx":
        import onnx
        from tvm.relax.frontend.onnx import from_onnx

        module = from_onnx(onnx.load(path), shape_dict={name: list(x.shape) for name, x in inputs.items()})
    else:
        from tvm.relax.frontend.torch import from_exported_program

        module = from_exported_program(torch_file(path))
    target = tvm.target.Target({"kind": "llvm", "mcpu": tvm.target.codegen.llvm_get_system_cpu()})
    machine = relax.VirtualMachine(tvm.compile(module, target=target), tvm.cpu())
    arrays = [tvm.runtime.tensor(x) for x in inputs.values()]
    return lambda: machine["main"](*arrays)


def executorch(path, inputs, scratch):
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    lowered = to_edge_transform_and_lower(torch_file(path), partitioner=[XnnpackPartitioner()]).to_executorch()
    (scratch / "model.pte").write_bytes(lowered.buffer)
    method = Runtime.get().load_program(scratch / "model.pte").load_method("forward")
    given = tensors(inputs)
    return lambda: method.execute(given)


def torch_file(path):
    """An ExportedProgram or a TorchScript module."""
    import torch

    return torch.export.load(path) if path.suffix == ".pt2" else torch.jit.load(str(path)).eval()


def tensors(inputs):
    import torch

    torch.set_num_threads(1)
    return [torch.from_numpy(x) for x in inputs.values()]


def without_gradients(module, inputs):
    import torch

    given = tensors(inputs)

    def run():
        with torch.no_grad():
            return module(*given)

    return run


def torch_eager(path, inputs, scratch=None):
    return without_gradients(torch_file(path).module() if path.suffix == ".pt2" else torch_file(path), inputs)


def torchscript(path, inputs, scratch):
    import torch

    return without_gradients(torch.jit.optimize_for_inference(torch_file(path)), inputs)


def inductor(path, inputs, scratch):
    import torch

    return without_gradients(torch.compile(torch_file(path).module(), dynamic=False), inputs)


def aot_inductor(path, inputs, scratch):
    import torch

    package = torch._inductor.aoti_compile_and_package(torch_file(path), package_path=str(scratch / "model.pt2"))
    return without_gradients(torch._inductor.aoti_load_package(package), inputs)


def ncnn(path, inputs, scratch):
    import ncnn

    shapes = ",".join(f"[{','.join(map(str, x.shape))}]{KINDS[x.dtype.name]}" for x in inputs.values())
    model = scratch / f"model{path.suffix}"
    model.write_bytes(path.read_bytes())
    binary = pathlib.Path(sys.executable).with_name("pnnx")
    subprocess.run([binary, model, f"inputshape={shapes}", "fp16=0"], check=True, cwd=scratch)
    net = ncnn.Net()
    net.opt.num_threads = 1
    for name in ("packed", "storage", "arithmetic"):
        setattr(net.opt, f"use_fp16_{name}", False)
    for load, suffix in ((net.load_param, "param"), (net.load_model, "bin")):
        if load(str(scratch / f"model.ncnn.{suffix}")):
            raise RuntimeError(f"ncnn does not load what pnnx wrote (.{suffix})")
    # It knows no batch.
    arrays = [ncnn.Mat(np.ascontiguousarray(x[0])) for x in inputs.values()]

    def run():
        extractor = net.create_extractor()
        for name, array in zip(net.input_names(), arrays):
            extractor.input(name, array)
        return [np.array(extractor.extract(name)[1])[None] for name in net.output_names()]

    return run


# What pnnx calls types of numbers.
KINDS = {"float32": "f32", "int64": "i64", "int32": "i32"}


def litert(path, inputs, scratch):
    from ai_edge_litert.interpreter import Interpreter

    fixed(path, inputs, scratch / "fixed.onnx")
    # Images that it would fetch from the network, if they were not there: it looks at what they become on the way.
    images = np.random.default_rng(0).random((20, 128, 128, 3), np.float32)
    np.save(scratch / "calibration_image_sample_data_20x128x128x3_float32.npy", images)
    converter = pathlib.Path(sys.executable).with_name("onnx2tf")
    subprocess.run([converter, "-i", scratch / "fixed.onnx", "-o", scratch / "made", "-n"], check=True, cwd=scratch)
    interpreter = Interpreter(str(scratch / "made" / "fixed_float32.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    for place, x in zip(interpreter.get_input_details(), inputs.values()):
        # Images have their channels last there.
        x = x if tuple(place["shape"]) == x.shape else np.moveaxis(x, 1, -1)
        interpreter.set_tensor(place["index"], np.ascontiguousarray(x, dtype=place["dtype"]))

    def run():
        interpreter.invoke()
        return [interpreter.get_tensor(place["index"]) for place in interpreter.get_output_details()]

    return run


def fixed(path, inputs, out):
    """The ONNX model with the inputs' sizes as numbers."""
    import onnx

    model = onnx.load(path)
    for value in model.graph.input:
        if value.name in inputs:
            for dimension, size in zip(value.type.tensor_type.shape.dim, inputs[value.name].shape):
                dimension.dim_value = size
    onnx.save(onnx.shape_inference.infer_shapes(model), out)


CONSUMERS = {
    "reference": Consumer("reference", [".onnx", ".pt", ".pt2"], [], reference),
    "onnxruntime": Consumer("ONNX Runtime", [".onnx"], ["onnxruntime"], onnx_runtime),
    "openvino": Consumer("OpenVINO", [".onnx", ".pt", ".pt2"], ["openvino"], openvino),
    "iree": Consumer("IREE", [".onnx"], ["iree-base-compiler", "iree-base-runtime"], iree),
    "tvm": Consumer("TVM", [".onnx", ".pt2"], ["apache-tvm"], tvm),
    "litert": Consumer("LiteRT, by onnx2tf", [".onnx"], ["ai-edge-litert", "onnx2tf"], litert),
    "ncnn": Consumer("ncnn, by pnnx", [".onnx", ".pt"], ["ncnn", "pnnx"], ncnn),
    "executorch": Consumer("ExecuTorch, XNNPACK", [".pt2"], ["executorch", "torch"], executorch),
    "torchscript": Consumer("libtorch, optimize_for_inference", [".pt"], ["torch"], torchscript),
    "inductor": Consumer("Torch Inductor", [".pt2"], ["torch"], inductor),
    "aoti": Consumer("AOTInductor", [".pt2"], ["torch"], aot_inductor),
}


def arrays(result):
    """What a runtime gives as arrays of NumPy's."""
    if isinstance(result, dict):
        result = list(result.values())
    if not isinstance(result, (list, tuple)) and type(result).__name__ not in ("Array", "list"):
        result = [result]
    return [np.asarray(x.numpy() if hasattr(x, "numpy") else x.to_host() if hasattr(x, "to_host") else x) for x in result]


def versions(name):
    """The versions of its packages; an error where one is not installed."""
    return {package: importlib.metadata.version(package) for package in CONSUMERS[name].packages}


def run_once(name, inputs, path, out):
    with tempfile.TemporaryDirectory() as scratch:
        run = CONSUMERS[name].load(pathlib.Path(path).resolve(), inputs, pathlib.Path(scratch))
        np.savez(out, *arrays(run()))
    return {}


def timed(name, inputs, seconds, paths):
    from turns import turns

    # All threads that a runtime starts are then on one processor, whatever it makes of settings.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as scratch:
        runs = []
        for i, path in enumerate(paths):
            folder = pathlib.Path(scratch, str(i))
            folder.mkdir()
            runs.append(CONSUMERS[name].load(pathlib.Path(path).resolve(), inputs, folder))
        return {"times": turns(runs, float(seconds))}


def main():
    what, name, *rest = sys.argv[1:]
    if what == "versions":
        said = versions(name)
    else:
        given = np.load(rest[0])
        inputs = {key: given[key] for key in given.files}
        said = run_once(name, inputs, *rest[1:]) if what == "run" else timed(name, inputs, rest[1], rest[2:])
    sys.stdout.flush()
    print("\n" + json.dumps(said), flush=True)
    # Some runtimes crash when Python ends.
    os._exit(0)


if __name__ == "__main__":
    main()
