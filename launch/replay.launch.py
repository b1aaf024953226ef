"""Plays a data set, a bag, or a world that is simulated meanwhile, as sensor topics.

ros2 launch condense_ros replay.launch.py path:=drive rate:=1.0
ros2 launch condense_ros replay.launch.py world:=town seed:=3
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = get_package_share_directory("condense_ros")


def value(name, kind):
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "path", default_value="", description="A bag, data set folder or cloud file."
            ),
            DeclareLaunchArgument(
                "world", default_value="", description="town, building or terrain, instead of path."
            ),
            DeclareLaunchArgument("seed", default_value="0", description="Seed of the world."),
            DeclareLaunchArgument(
                "rig", default_value="", description="A shipped rig or YAML file, for a world."
            ),
            DeclareLaunchArgument("rate", default_value="1.0", description="Speed."),
            DeclareLaunchArgument("loop", default_value="false", description="Repeat for ever."),
            DeclareLaunchArgument(
                "params_file",
                default_value=os.path.join(SHARE, "config", "replay.yaml"),
                description="YAML file with parameters of replay_node.",
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(os.path.join(SHARE, "launch", "transport.launch.py"))
            ),
            Node(
                package="condense_ros",
                executable="replay_node",
                name="replay_node",
                output="screen",
                parameters=[
                    LaunchConfiguration("params_file"),
                    # the player makes /clock, it does not follow it
                    {
                        "path": value("path", str),
                        "rate": value("rate", float),
                        "loop": value("loop", bool),
                        "simulate.world": value("world", str),
                        "simulate.seed": value("seed", int),
                        "simulate.rig": value("rig", str),
                        "use_sim_time": False,
                    },
                ],
            ),
        ]
    )
