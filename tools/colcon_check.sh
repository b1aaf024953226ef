#!/usr/bin/env bash
# Builds an ordinary colcon workspace with a clone of this repository in src/, then checks that nodes,
# launch files, configuration and interfaces are installed. With a ROS installation the build command
# is the one of the README; with the wheels in .venv, CMake is told where they are.
set -eo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
workspace=${1:-$(mktemp -d)}
venv=$root/.venv
# what another Python or a sourced ROS would leak into this build
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE PYTHONPATH LD_LIBRARY_PATH

mkdir -p "$workspace/src"
git clone -q "$root" "$workspace/src/condense_ros"
cd "$workspace"
export PATH=$venv/bin:$PATH VIRTUAL_ENV=$venv
export AMENT_PREFIX_PATH=$venv CMAKE_PREFIX_PATH=$venv
colcon build \
  --base-paths src/condense_ros src/condense_ros/msg \
  --cmake-args -G Ninja -DBUILD_TESTING=OFF \
  "-DPython3_EXECUTABLE=$venv/bin/python" -DPython3_FIND_VIRTUALENV=ONLY \
  "-DCMAKE_PROJECT_INCLUDE=$root/tools/interfaces/relocated_wheels.cmake"

set +u
source install/setup.bash
prefix=$workspace/install/condense_ros
for file in lib/condense_ros/{condense,capture_node,replay_node,perception_node} \
  share/condense_ros/launch/{perception,capture,replay,transport}.launch.py \
  share/condense_ros/config/{fastdds.xml,perception.yaml,capture.yaml,replay.yaml,perception.rviz} \
  share/condense_ros/package.xml share/ament_index/resource_index/packages/condense_ros; do
  [ -e "$prefix/$file" ] || { echo "error: not installed: $file" >&2; exit 1; }
done
cd /
python - "$workspace" <<'PYTHON'
import sys
from pathlib import Path

import condense_msgs.msg
import condense_ros
import condense_training
from condense_ros.resources import config_file, interface_files

for module in (condense_msgs, condense_ros, condense_training):
    folder = Path(module.__file__)
    assert Path(sys.argv[1]) in folder.parents, f"{module.__name__} comes from {folder}"
assert config_file("fastdds.xml").is_file()
assert "condense_msgs/msg/Pair" in interface_files()
PYTHON
"$prefix/lib/condense_ros/condense" --version
echo "colcon workspace is complete: $workspace"
