"""Plays a data set or a bag as sensor topics.

ros2 launch condense_ros replay.launch.py path:=drive rate:=1.0
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
            DeclareLaunchArgument("path", description="A bag, data set folder or cloud file."),
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
                        "use_sim_time": False,
                    },
                ],
            ),
        ]
    )
