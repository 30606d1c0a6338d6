# Source this to build with `--features torch`: it fetches libtorch if need be and exports where it is.
#
#     source tests/libtorch.sh && cargo run --features torch -- …
#
# libtorch's glue is C++. On Debian and Ubuntu a missing compiler is installed when this runs as root; elsewhere the
# shell is told what is missing, and stops if it runs with `set -e`.

optc_libtorch() {
    local root
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || return
    if [ -z "${CXX:-}" ] && ! command -v c++ >/dev/null; then
        if command -v g++ >/dev/null; then
            export CXX=g++
        elif command -v clang++ >/dev/null; then
            export CXX=clang++
        elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            echo "libtorch: there is no C++ compiler, installing g++" >&2
            apt-get update -qq >&2 || return
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++ >&2 || return
        else
            echo "libtorch: building with it needs a C++ compiler: install g++ or clang++, or set CXX" >&2
            return 1
        fi
    fi
    LIBTORCH=$(python3 "$root/tests/libtorch.py") || return
    export LIBTORCH
    export LD_LIBRARY_PATH="$LIBTORCH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export DYLD_LIBRARY_PATH="$LIBTORCH/lib${DYLD_LIBRARY_PATH:+:$DYLD_LIBRARY_PATH}"
}
optc_libtorch
