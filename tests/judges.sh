# Source this to run tests that ask ONNX Runtime: it installs its Python package if need be, beside the build, and exports where.
#
#     source tests/judges.sh && cargo test

optc_judges() {
    local root judges
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || return
    judges=$(python3 "$root/tests/judges.py") || return
    export PYTHONPATH="$judges${PYTHONPATH:+:$PYTHONPATH}"
    # It is found as the package of this Python, whatever else is named.
    unset ORT_DYLIB_PATH
}
optc_judges
