"""Gives every process of a launch the FastDDS profile for large messages, unless one is chosen."""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import SetEnvironmentVariable

# FastDDS 2 reads the first name, FastDDS 3 the second
VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def generate_launch_description():
    if any(os.environ.get(name) for name in VARIABLES):
        return LaunchDescription([])
    share = get_package_share_directory("condense_ros")
    profile = os.path.join(share, "config", "fastdds.xml")
    return LaunchDescription([SetEnvironmentVariable(name, profile) for name in VARIABLES])
