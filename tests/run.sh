#!/usr/bin/env bash
# Run every test, libtorch's, ONNX Runtime's and those in C and Python included, fetching the former two first. Arguments go to cargo
# test, which then is all that runs. Needs a Rust toolchain, a C compiler and python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/libtorch.sh
source tests/judges.sh
cargo test --locked --features torch "$@"
if [ $# -eq 0 ]; then
    capi/test.sh
    python/test.sh
fi
