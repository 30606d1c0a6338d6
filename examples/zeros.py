#!/usr/bin/env python3
"""The zeros of each layer of an ONNX model, and whether a pattern holds: zeros.py [--pattern 2:4] [--torch] MODEL.onnx

A weight is looked at as the matrix that a kernel multiplies by, [outputs, inputs * taps]. Ends with status 1 where a layer whose rows
are whole groups has a group with more weights than the pattern keeps. --torch also packs each layer as PyTorch's semi-structured
tensors for GPUs are packed, in half precision, and compares what comes back; PyTorch refuses sizes that its kernels have no tiles for.
"""
import argparse
import sys

import numpy
import onnx
from onnx import numpy_helper


def weights(model: onnx.ModelProto):
    """The name and the matrix of each convolution, linear layer and product with a constant matrix."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in constants:
            continue
        array = numpy_helper.to_array(constants[node.input[1]])
        attributes = {attribute.name: attribute for attribute in node.attribute}
        by_input = node.op_type == "MatMul" or node.op_type == "Gemm" and not ("transB" in attributes and attributes["transB"].i)
        if array.ndim >= 2 and not (by_input and array.ndim > 2):
            yield node.input[1], array.T if by_input else array.reshape(len(array), -1)


def by_torch(matrix: numpy.ndarray) -> str:
    """What comes back from PyTorch's semi-structured form, which a GPU's kernels read."""
    import torch
    from torch.sparse import _semi_structured_conversions as conversions

    dense = torch.tensor(matrix.tolist()).half()
    try:
        packed, meta = conversions.sparse_semi_structured_from_dense_cutlass(dense)
        back = conversions.sparse_semi_structured_to_dense_cutlass(packed, meta)
        return "same" if torch.equal(back, dense) else "differs"
    except (RuntimeError, IndexError) as error:
        return f"refused: {str(error).splitlines()[0]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--pattern", help="how many weights stay of how many, such as 2:4")
    parser.add_argument("--torch", action="store_true")
    arguments = parser.parse_args()
    broken = 0
    for name, matrix in weights(onnx.load(arguments.model)):
        line = f"{name}: {matrix.shape[0]} x {matrix.shape[1]}, {100 * (matrix == 0).mean():.1f} % zeros"
        if arguments.pattern:
            kept, of = map(int, arguments.pattern.split(":"))
            if matrix.shape[1] % of:
                line += f", no whole groups of {of}"
            else:
                most = (matrix.reshape(-1, of) != 0).sum(axis=1).max()
                broken += most > kept
                line += ", holds" if most <= kept else f", broken: a group keeps {most}"
        if arguments.torch:
            line += f", PyTorch: {by_torch(matrix)}"
        print(line)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
