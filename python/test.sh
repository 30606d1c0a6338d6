#!/usr/bin/env bash
# Build the extension module, put it into the package, and run the tests against ONNX Runtime, and PyTorch where it is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/judges.sh
pytest=$(python3 tests/judges.py pytest)
# Together with the C interface, so that the library is built once for both.
cargo build --locked -p optc-capi -p optc-python
cp "${CARGO_TARGET_DIR:-target}/debug/lib_optc.so" python/optc/_optc.abi3.so
PYTHONPATH="$PWD/python:$PYTHONPATH:$pytest" python3 -m pytest -q -p no:cacheprovider python/tests "$@"
