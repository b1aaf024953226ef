#!/usr/bin/env python3
"""Makes the environment in .venv: pinned packages, and the ROS interfaces built into it.

Needs only a Python with venv and a C++ compiler; both are checked first. Every step is skipped when
nothing it depends on has changed, so this runs before each `make` target.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
WORKSPACE = ROOT / ".ws"
OWN_INTERFACES = {"condense_msgs": ROOT / "msg", "tf2_msgs": ROOT / "tools/interfaces/tf2_msgs"}
CPU_TORCH = "https://download.pytorch.org/whl/cpu"


def missing_on_this_machine():
    """List of (what is missing, Debian package that brings it)."""
    missing = []
    version = "{}.{}".format(*sys.version_info[:2])
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        missing.append((f"Python 3.10 to 3.13 (this is {version})", "python3"))
        return missing
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        missing.append(("Python's venv and ensurepip modules", f"python{version}-venv"))
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing.append(("Python's C headers", f"python{version}-dev"))
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        missing.append(("a C++ compiler", "g++"))
    return missing


def digest(*paths):
    """Hash of the files under `paths`, of their names, and of the interpreter."""
    state = hashlib.sha256(sys.version.encode())
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                state.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return state.hexdigest()


def clean_environment():
    """The environment without what another Python or a sourced ROS would leak into this one."""
    leaky = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
    env = {k: v for k, v in os.environ.items() if k not in leaky}
    env["VIRTUAL_ENV"] = str(VENV)
    env["PATH"] = f"{VENV / 'bin'}{os.pathsep}{env.get('PATH', '')}"
    env["AMENT_PREFIX_PATH"] = env["CMAKE_PREFIX_PATH"] = str(VENV)
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return env


def run(*command, log=None):
    """Runs a command; its output goes to `log`, which is shown if the command fails."""
    command = [str(part) for part in command]
    if log is None:
        code = subprocess.call(command, env=clean_environment(), stdin=subprocess.DEVNULL)
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as out:
            code = subprocess.call(
                command, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        if code:
            print("".join(log.read_text(errors="replace").splitlines(True)[-40:]), file=sys.stderr)
    if code:
        where = f" (whole output: {log})" if log else ""
        sys.exit(f"error: `{' '.join(command)}` failed with status {code}{where}")


def torch_index():
    """pip arguments that choose the small CPU build of torch where there is no NVIDIA GPU."""
    if Path("/dev/nvidia0").exists() or os.environ.get("CONDENSE_TORCH") == "default":
        return []
    try:
        urllib.request.urlopen(CPU_TORCH + "/torch/", timeout=5).close()
    except OSError:
        print(f"  {CPU_TORCH} is not reachable: torch comes from the default index")
        return []
    return ["--extra-index-url", CPU_TORCH]


def make_venv():
    if PYTHON.exists() and subprocess.call([str(PYTHON), "-c", ""], env=clean_environment()) == 0:
        return
    print(f"creating {VENV}")
    run(sys.executable, "-m", "venv", "--clear", VENV)


def install_packages(quiet):
    stamp = VENV / ".packages.sha256"
    wanted = digest(
        ROOT / "constraints.txt", ROOT / "setup.py", ROOT / "setup.cfg",
        ROOT / "condense_ros/sparse/native",
    )  # fmt: skip
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("installing packages (constraints.txt)")
    pip = [PYTHON, "-m", "pip", "install", "-c", ROOT / "constraints.txt"]
    pip += ["-q", "--progress-bar", "off"] if quiet else []
    run(*pip, "setuptools")
    # without isolation the pinned setuptools builds, instead of one more download
    run(*pip, *torch_index(), "--no-build-isolation", "-e", f"{ROOT}[ros,interfaces,dev]")
    stamp.write_text(wanted)


def importable(module):
    command = [str(PYTHON), "-c", f"import {module}"]
    env = clean_environment()
    return subprocess.call(command, env=env, cwd="/", stderr=subprocess.DEVNULL) == 0


def build_interfaces():
    """Builds the message packages and installs them into .venv, beside those of the wheels.

    There they are found with no environment to source: the wheels put .venv/lib on the library
    path and .venv is the ament prefix.
    """
    for name, source in OWN_INTERFACES.items():
        stamp = VENV / f".{name}.sha256"
        wanted = digest(source, ROOT / "tools/interfaces", ROOT / "constraints.txt")
        if stamp.exists() and stamp.read_text() == wanted:
            continue
        if not stamp.exists() and name == "tf2_msgs" and importable("tf2_msgs.msg"):
            continue  # a ROS installation brings it
        print(f"building {name}")
        build, log = WORKSPACE / name, WORKSPACE / f"{name}.log"
        shutil.rmtree(build, ignore_errors=True)
        log.unlink(missing_ok=True)
        cmake = VENV / "bin" / "cmake"
        run(
            cmake, "-S", source, "-B", build, "-G", "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={VENV / 'bin' / 'ninja'}",
            f"-DCMAKE_INSTALL_PREFIX={VENV}",
            f"-DPython3_EXECUTABLE={PYTHON}",
            "-DPython3_FIND_VIRTUALENV=ONLY",
            "-DCMAKE_BUILD_TYPE=Release",
            "-DBUILD_TESTING=OFF",
            f"-DCMAKE_PROJECT_INCLUDE={ROOT / 'tools/interfaces/relocated_wheels.cmake'}",
            log=log,
        )  # fmt: skip
        run(cmake, "--build", build, "--target", "install", log=log)
        if not importable(f"{name}.msg"):
            sys.exit(f"error: {name} was built but does not import (output: {log})")
        stamp.write_text(wanted)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verbose", action="store_true", help="show pip's output")
    arguments = parser.parse_args()
    missing = missing_on_this_machine()
    if missing:
        for what, _ in missing:
            print(f"missing: {what}", file=sys.stderr)
        packages = " ".join(package for _, package in missing)
        sys.exit(f"On Debian and Ubuntu type:\n  sudo apt-get install -y {packages}")
    if "/opt/ros" in os.environ.get("PYTHONPATH", ""):
        print("note: a ROS installation is sourced in this shell. For it, build this package with")
        print("      colcon (README); .venv is meant for shells in which none is sourced.")
    started = time.monotonic()
    make_venv()
    install_packages(quiet=not arguments.verbose)
    build_interfaces()
    seconds = time.monotonic() - started
    if seconds > 5:
        print(f"environment ready in {seconds:.0f} s")


if __name__ == "__main__":
    main()
