"""Records calibrated pairs.

ros2 launch condense_ros capture.launch.py bag:=drive params_file:=my_robot.yaml
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


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="Folder of the new bag."),
            DeclareLaunchArgument(
                "params_file",
                default_value=os.path.join(SHARE, "config", "capture.yaml"),
                description="YAML file with parameters of capture_node: topics, tolerance.",
            ),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", description="Take time from /clock."
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(os.path.join(SHARE, "launch", "transport.launch.py"))
            ),
            Node(
                package="condense_ros",
                executable="capture_node",
                name="capture_node",
                output="screen",
                parameters=[
                    LaunchConfiguration("params_file"),
                    {
                        "bag": ParameterValue(LaunchConfiguration("bag"), value_type=str),
                        "use_sim_time": ParameterValue(
                            LaunchConfiguration("use_sim_time"), value_type=bool
                        ),
                    },
                ],
            ),
        ]
    )
