"""Segmentation and relocalisation: starts perception_node, configures and activates it.

ros2 launch condense_ros perception.launch.py checkpoint:=model.safetensors map:=site bag:=drive
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node, SetParameter
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

SHARE = get_package_share_directory("condense_ros")
NODE = "perception_node"


def argument(name, default, description):
    return DeclareLaunchArgument(name, default_value=default, description=description)


def text(name):
    # without the type, a value such as `12` or `on` would arrive as a number or a bool
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def clock(context):
    """Nodes take the time of a bag that is played."""
    played = LaunchConfiguration("bag").perform(context) != ""
    return [SetParameter("use_sim_time", played or LaunchConfiguration("use_sim_time"))]


def player(context):
    """The bag's player, if there is a bag."""
    if not LaunchConfiguration("bag").perform(context):
        return []
    source = PythonLaunchDescriptionSource(os.path.join(SHARE, "launch", "replay.launch.py"))
    values = {"path": LaunchConfiguration("bag"), "rate": LaunchConfiguration("rate")}
    return [IncludeLaunchDescription(source, launch_arguments=values.items())]


def generate_launch_description():
    arguments = [
        argument("checkpoint", "", "Checkpoint with a segmentation head (.safetensors)."),
        argument("map", "", "Folder of a place map; empty: segments and answers 'unknown'."),
        argument("device", "auto", "torch device: cpu, cuda, cuda:N or auto."),
        argument("bag", "", "A bag or data set that is played; empty: live sensors."),
        argument("rate", "1.0", "Speed of the player."),
        argument("rviz", "false", "Start RViz with the layout of this package."),
        argument(
            "params_file",
            os.path.join(SHARE, "config", "perception.yaml"),
            "YAML file with parameters of perception_node.",
        ),
        argument("use_sim_time", "false", "Take time from /clock; always so with a bag."),
    ]
    node = LifecycleNode(
        package="condense_ros",
        executable=NODE,
        name=NODE,
        namespace="",
        output="screen",
        parameters=[
            LaunchConfiguration("params_file"),
            {"checkpoint": text("checkpoint"), "map": text("map"), "device": text("device")},
        ],
    )
    configure = EmitEvent(
        event=ChangeState(
            lifecycle_node_matcher=matches_action(node),
            transition_id=Transition.TRANSITION_CONFIGURE,
        )
    )
    activate_once_configured = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[
                EmitEvent(
                    event=ChangeState(
                        lifecycle_node_matcher=matches_action(node),
                        transition_id=Transition.TRANSITION_ACTIVATE,
                    )
                )
            ],
        )
    )
    tell_unconfigured = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="unconfigured",
            entities=[
                LogInfo(
                    msg=f"{NODE} could not be configured and stays unconfigured: see its error "
                    "above and on /diagnostics"
                )
            ],
        )
    )
    # not before: the first seconds of the bag would pass while weights are loaded
    play_once_active = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="activating",
            goal_state="active",
            entities=[OpaqueFunction(function=player)],
            # a node that is deactivated and activated again must not get a second player
            handle_once=True,
        )
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", os.path.join(SHARE, "config", "perception.rviz")],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription(
        [
            *arguments,
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(os.path.join(SHARE, "launch", "transport.launch.py"))
            ),
            OpaqueFunction(function=clock),
            # the handlers come before the event that they answer to
            activate_once_configured,
            tell_unconfigured,
            play_once_active,
            node,
            configure,
            rviz,
        ]
    )
