#!/usr/bin/env bash
# Build the C library, and compile and run its examples and tests against it, shared and static.
# Needs a C compiler; the example in C++ is left out, and that is said, where there is no C++ compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Together with the extension module for Python, so that the library is built once for both.
cargo test --locked -p optc-capi -p optc-python
cargo build --locked -p optc-capi -p optc-python
built=${CARGO_TARGET_DIR:-target}/debug
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

strict=(-Wall -Wextra -Werror -Icapi)
shared=("$built/liboptc.so" "-Wl,-rpath,$(realpath "$built")")
# What the static library needs of the system: `cargo rustc -p optc-capi -- --print native-static-libs` says it.
static=("$built/liboptc.a" -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc)

cc -std=c11 "${strict[@]}" capi/examples/smaller.c "${shared[@]}" -o "$work/smaller"
"$work/smaller" examples/shapes.onnx "$work/smaller.onnx"
cc -std=c11 "${strict[@]}" capi/tests/mistakes.c "${static[@]}" -o "$work/mistakes"
(cd "$work" && ./mistakes)
if command -v c++ >/dev/null; then
    c++ -std=c++17 "${strict[@]}" capi/examples/driver.cpp "${shared[@]}" -o "$work/driver"
    "$work/driver" examples/shapes.onnx "$work/driver.onnx" 2>"$work/progress"
    # The same passes make the same file, whoever asks.
    cmp "$work/smaller.onnx" "$work/driver.onnx"
    grep -q '^red ' "$work/progress"
else
    echo "capi: no C++ compiler, so examples/driver.cpp was not tried" >&2
fi
echo "capi: all tests passed"
