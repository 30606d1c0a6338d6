#!/usr/bin/env bash
# Run every test, libtorch's included, fetching libtorch first. Arguments go to cargo test.
# Needs a Rust toolchain and python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/libtorch.sh
exec cargo test --locked --features torch "$@"
