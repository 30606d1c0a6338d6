#!/usr/bin/env python3
"""The onnx package's own backend cases as files, and ONNX Runtime's judgement of what optc made of them.

    onnx_cases.py write DIR    write DIR/NAME/model.onnx, inputs.npz and outputs.npz
    onnx_cases.py judge DIR    run DIR/NAME/optc.onnx, and compare with the recorded outputs

Needs onnx, onnxruntime and numpy. A case counts only if ONNX Runtime gives the recorded outputs for the original, too. The exit
status is 1 when a result is wrong.
"""
import collections
import concurrent.futures
import glob
import os
import pathlib
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore")


def save(folder, model, inputs, outputs):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    np.savez(folder / "inputs.npz", *[np.asarray(a) for a in inputs])
    np.savez(folder / "outputs.npz", *[np.asarray(a) for a in outputs])


def write(out):
    import onnx
    from onnx import numpy_helper
    from onnx.backend.test.case.node import collect_testcases

    def tensor(path):
        proto = onnx.TensorProto()
        proto.ParseFromString(pathlib.Path(path).read_bytes())
        return numpy_helper.to_array(proto)

    count = 0
    for case in collect_testcases(None):
        try:
            save(out / case.name, case.model.SerializeToString(), *case.data_sets[0])
            count += 1
        except Exception:  # sequences and optionals are no arrays
            pass
    data = os.path.join(os.path.dirname(onnx.__file__), "backend/test/data")
    for path in glob.glob(data + "/*/*/model.onnx"):
        try:
            folder = pathlib.Path(path).parent
            arrays = []
            for kind in ("input", "output"):
                files = (folder / "test_data_set_0").glob(f"{kind}_*.pb")
                arrays.append([tensor(f) for f in sorted(files, key=lambda f: int(f.stem.split("_")[1]))])
            save(out / folder.name, pathlib.Path(path).read_bytes(), *arrays)
            count += 1
        except Exception:
            pass
    print(f"{count} cases")


def run(path, inputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs)))


def same(a, b):
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return False
    if a.dtype.kind not in "fc":
        return np.array_equal(a, b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    # As the onnx package's own runner compares.
    return np.allclose(a, b, rtol=2e-3, atol=1e-5, equal_nan=True)


def judge_one(folder):
    folder = pathlib.Path(folder)
    if not (folder / "optc.onnx").exists():
        return "refused", folder.name, ""
    if not (folder / "outputs.npz").exists():
        return "without recorded arrays", folder.name, ""
    arrays = []
    for kind in ("inputs", "outputs"):
        with np.load(folder / f"{kind}.npz", allow_pickle=True) as npz:
            arrays.append([npz[f"arr_{i}"] for i in range(len(npz.files))])
    inputs, expected = arrays
    try:
        found = run(folder / "model.onnx", inputs)
        if len(found) != len(expected) or not all(map(same, expected, found)):
            return "not passed by the original", folder.name, ""
    except Exception:
        return "not run in the original", folder.name, ""
    try:
        found = run(folder / "optc.onnx", inputs)
    except Exception as error:
        return "wrong", folder.name, str(error).splitlines()[0][:300]
    if len(found) == len(expected) and all(map(same, expected, found)):
        return "passed", folder.name, ""
    shapes = [np.shape(a) for a in found]
    return "wrong", folder.name, f"{shapes} instead of {[a.shape for a in expected]}"


def judge(out):
    cases = sorted(str(p.parent) for p in out.glob("*/model.onnx"))
    counts = collections.Counter()
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for verdict, name, why in pool.map(judge_one, cases, chunksize=16):
            counts[verdict] += 1
            if verdict == "wrong":
                print(f"wrong: {name}: {why}")
    print(", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()))
    return int(counts["wrong"] > 0)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("write", "judge"):
        sys.exit(__doc__)
    sys.exit({"write": write, "judge": judge}[sys.argv[1]](pathlib.Path(sys.argv[2])))
