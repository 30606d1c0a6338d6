#!/usr/bin/env bash
# Run every test, libtorch's and ONNX Runtime's included, fetching both first. Arguments go to cargo test.
# Needs a Rust toolchain and python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/libtorch.sh
source tests/judges.sh
exec cargo test --locked --features torch "$@"
