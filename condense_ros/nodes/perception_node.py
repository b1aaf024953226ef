"""perception_node: segments clouds live and says where in a stored map they were taken.

A lifecycle node. `configure` loads and warms up the checkpoint and opens the map, `activate` begins
to listen. Without a usable checkpoint it stays unconfigured and says so on /diagnostics.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from condense_msgs.msg import PlaceMatch
from condense_msgs.srv import LoadMap, QueryText, SaveMap, StorePlace
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter

from condense_ros.config import build
from condense_ros.errors import CalibrationMissing, CheckpointError, CondenseError, ConfigError
from condense_ros.files import write_atomically
from condense_ros.geometry import Array, inverse
from condense_ros.nodes._common import (
    SENSOR_QOS,
    STATE_QOS,
    STATIC_QOS,
    SimTimeWatch,
    advertise,
    run,
    steady_timer,
    subscribe,
)
from condense_ros.nodes.perception_parameters import MODES, RUN_TIME, PerceptionParameters
from condense_ros.nodes.perception_pipeline import Located, Pipeline
from condense_ros.perception import Observer, Perceiver
from condense_ros.places.place import Place
from condense_ros.places.place_map import PlaceMap
from condense_ros.wire import POINT_CLOUD, Header, cdr
from condense_ros.wire.poses import pose_from_message, pose_to_message
from condense_ros.wire.status import (
    DIAGNOSTICS,
    ERROR,
    OK,
    WARN,
    Diagnostic,
    encode_diagnostics,
)

NAME = "perception_node"
_MAKE_ONE = (
    "make one with `condense pretrain BAG` and `condense probe CHECKPOINT --train LABELLED --head "
    "model.safetensors`, then set the parameter `checkpoint`"
)
_DEBUG = (
    *("processing_time_ms", "pipeline_latency_ms", "cyclic_time_ms", "decode_ms"),
    *("voxelize_ms", "backbone_ms", "head_ms", "encode_ms", "relocalise_ms"),
)


class PerceptionNode(LifecycleNode):
    """Shell around `Pipeline`: parameters, topics, services, diagnostics."""

    def __init__(self) -> None:
        super().__init__(NAME)
        #: what `run` spins
        self.node: Node = self
        for field in dataclasses.fields(PerceptionParameters):
            # types are checked by the dataclass, so that 2 is as good as 2.0
            about = ParameterDescriptor(description=field.metadata["help"], dynamic_typing=True)
            self.declare_parameter(field.name, field.default, about)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.pipeline: Pipeline | None = None
        self._problem = f"no checkpoint is loaded: {_MAKE_ONE}"
        self._clock_watch = SimTimeWatch(self)
        self._active = False
        self._inputs: list[Any] = []
        self._outputs: dict[str, Any] = {}
        self._diagnostics = advertise(self, DIAGNOSTICS, "/diagnostics", STATE_QOS)
        steady_timer(self, 1.0, self._diagnose)
        self._offered = [
            self.create_service(StorePlace, "~/store_place", self._store_place),
            self.create_service(SaveMap, "~/save_map", self._save_map),
            self.create_service(LoadMap, "~/load_map", self._load_map),
            self.create_service(QueryText, "~/query_text", self._query_text),
        ]

    @property
    def finished(self) -> bool:
        """Never by itself."""
        return False

    # -- life cycle ---------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            parameters = _checked({f: self.get_parameter(f).value for f in _names()})
            if not parameters.checkpoint:
                raise CheckpointError("no checkpoint is set", _MAKE_ONE)
            perceiver = Perceiver(parameters.checkpoint, parameters.perception())
            place_map = self._open_map(parameters.map, perceiver) if parameters.map else None
        except CondenseError as error:
            self._problem = str(error)
            self.get_logger().error(f"not configured: {error}")
            return TransitionCallbackReturn.FAILURE
        self._make_outputs()
        self.pipeline = Pipeline(
            perceiver,
            parameters,
            self._publish,
            self._answer,
            self._duration,
            lambda: int(self.get_clock().now().nanoseconds),
        )
        self.pipeline.use_map(place_map)
        self._problem = ""
        for warning in perceiver.warnings:
            self.get_logger().warning(warning)
        self.get_logger().info(
            f"{parameters.checkpoint} on {perceiver.device.torch_device}, warmed up in "
            f"{perceiver.warm_up_ms:.0f} ms; "
            + ("no map" if place_map is None else f"{len(place_map)} places")
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self.pipeline is not None
        self.pipeline.start()
        add_static = partial(self.pipeline.add_tf, static=True)
        add_dynamic = partial(self.pipeline.add_tf, static=False)
        points = self.pipeline.parameters.points_topic
        self._inputs = [
            subscribe(self, "tf2_msgs/msg/TFMessage", "/tf_static", add_static, STATIC_QOS),
            subscribe(self, "tf2_msgs/msg/TFMessage", "/tf", add_dynamic, STATE_QOS),
            subscribe(self, POINT_CLOUD, points, self.pipeline.clouds.put, SENSOR_QOS),
        ]
        self._active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _stop(self) -> None:
        self._active = False
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        if self.pipeline is not None:
            self.pipeline.stop()

    def _release(self) -> None:
        self._stop()
        self._write_report()
        self.pipeline = None
        for publisher in self._outputs.values():
            self.destroy_publisher(publisher)
        self._outputs = {}
        self._problem = f"no checkpoint is loaded: {_MAKE_ONE}"

    def close(self) -> None:
        """Ends the work in hand and writes the report, in whatever state the node is."""
        self._stop()
        self._write_report()

    def _write_report(self) -> None:
        path = str(self.get_parameter("report").value)
        if not path or self.pipeline is None:
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self.pipeline.report(), indent=1) + "\n"
            write_atomically(Path(path), text)
        except (OSError, CondenseError) as error:
            self.get_logger().error(f"no report: {error}")

    # -- output -------------------------------------------------------------------------------

    def _make_outputs(self) -> None:
        pose, match = "geometry_msgs/msg/PoseWithCovarianceStamped", "condense_msgs/msg/PlaceMatch"
        self._outputs = {
            "segmented_points": advertise(self, POINT_CLOUD, "~/segmented_points", SENSOR_QOS),
            "pose": advertise(self, pose, "~/pose", STATE_QOS),
            "place_match": advertise(self, match, "~/place_match", STATE_QOS),
        }
        for stage in _DEBUG:
            topic = f"~/debug/{stage}"
            self._outputs[stage] = advertise(self, "std_msgs/msg/Float64", topic, STATE_QOS)

    def _publish(self, name: str, raw: bytes) -> None:
        publisher = self._outputs.get(name)
        if publisher is not None and self.context.ok():
            publisher.publish(raw)

    def _duration(self, stage: str, milliseconds: float) -> None:
        message = cdr.message("std_msgs/msg/Float64", data=float(milliseconds))
        self._publish(stage, cdr.serialize("std_msgs/msg/Float64", message))

    def _answer(self, located: Located) -> None:
        message = PlaceMatch()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(
            located.header.stamp_ns, 1_000_000_000
        )
        message.header.frame_id = located.header.frame_id
        message.status, message.reason = located.status, located.reason
        message.place_id, message.score = located.place, float(located.score)
        message.age_s = float(located.age_s)
        message.map_frame = located.map_frame
        if located.T_map_base is not None and located.covariance is not None:
            wire_pose = pose_to_message(located.T_map_base)
            for part, axes in (("position", "xyz"), ("orientation", "xyzw")):
                for axis in axes:
                    value = float(getattr(getattr(wire_pose, part), axis))
                    setattr(getattr(message.pose.pose, part), axis, value)
            message.pose.covariance = located.covariance.ravel()
        publisher = self._outputs.get("place_match")
        if publisher is not None and self.context.ok():
            publisher.publish(message)

    # -- diagnostics --------------------------------------------------------------------------

    def _diagnose(self) -> None:
        now_ns = int(self.get_clock().now().nanoseconds)
        raw = encode_diagnostics(Header(now_ns), [self._status()])
        if self.context.ok():
            self._diagnostics.publish(raw)

    def _status(self) -> Diagnostic:
        name = f"{self.get_fully_qualified_name()}: perception"
        if self.pipeline is None:
            return Diagnostic(name, ERROR, self._problem)
        report = self.pipeline.report(answers=False)
        clouds = report["clouds"]
        values: dict[str, object] = {
            "received": clouds["received"],
            "processed": clouds["processed"],
            "waiting": clouds["waiting"],
            **{f"dropped {reason}": n for reason, n in clouds["dropped"].items()},
            **{f"points left out {why}": n for why, n in report["points_left_out"].items()},
            **{f"answers {status}": n for status, n in report["answers"].items()},
            **{f"{stage} p99": v["p99"] for stage, v in report["latency_ms"].items()},
            **{f"warning {i}": text for i, text in enumerate(report["warnings"])},
            **{f"problem {topic}": text for topic, text in report["problems"].items()},
            "device": report["device"],
            "places": report["places"],
        }
        if self._clock_watch.problem:
            return Diagnostic(name, ERROR, self._clock_watch.problem, values)
        if report["problems"]:
            return Diagnostic(name, WARN, next(iter(report["problems"].values())), values)
        if report["fallback"]:
            return Diagnostic(name, WARN, report["fallback"], values)
        if not self._active:
            return Diagnostic(name, OK, "configured, not active", values)
        if report["warnings"]:
            return Diagnostic(name, WARN, report["warnings"][0], values)
        return Diagnostic(name, OK, "active", values)

    # -- parameters ---------------------------------------------------------------------------

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        known = {change.name: change.value for change in changes if change.name in _names()}
        if not known:
            return SetParametersResult(successful=True)
        try:
            values = {
                name: self.get_parameter(name).value if self.has_parameter(name) else None
                for name in _names()
            }
            values = {name: value for name, value in values.items() if value is not None}
            parameters = _checked(values | known)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self.pipeline is not None:
            fixed = sorted(
                name
                for name in set(known) - set(RUN_TIME)
                if known[name] != getattr(self.pipeline.parameters, name)
            )
            if fixed:
                reason = f"{', '.join(fixed)} can only change while the node is unconfigured"
                return SetParametersResult(successful=False, reason=reason)
            self.pipeline.use_parameters(parameters)
        return SetParametersResult(successful=True)

    # -- services -----------------------------------------------------------------------------

    def _open_map(self, path: str, perceiver: Perceiver) -> PlaceMap:
        place_map = PlaceMap.open(path)
        place_map.check_query(perceiver.backbone_id, perceiver.config.descriptor)
        return place_map

    def _load_map(self, request: Any, response: Any) -> Any:
        try:
            pipeline = self._configured()
            place_map = self._open_map(request.path, pipeline.perceiver)
        except CondenseError as error:
            response.success, response.message = False, str(error)
            return response
        pipeline.use_map(place_map)
        response.success, response.places = True, len(place_map)
        response.message = f"{len(place_map)} places"
        return response

    def _save_map(self, request: Any, response: Any) -> Any:
        try:
            place_map = self._configured().place_map
            if place_map is None:
                raise ConfigError("there is no map to save", "load one, or store a place first")
            own = place_map.folder
            if request.path and (own is None or Path(request.path).resolve() != own.resolve()):
                saved = place_map.save_as(request.path)
                if own is None:
                    self._configured().place_map = place_map = saved
            else:
                place_map.save()
        except CondenseError as error:
            response.success, response.message = False, str(error)
            return response
        response.success, response.places = True, len(place_map)
        response.message = f"{len(place_map)} places saved"
        return response

    def _store_place(self, request: Any, response: Any) -> Any:
        try:
            pipeline = self._configured()
            if pipeline.newest is None:
                raise ConfigError("no cloud has been segmented yet", "activate, and publish clouds")
            header, perception = pipeline.newest
            T_map_base = self._pose_to_store(request, pipeline, header)
            base = pipeline.parameters.base_frame
            T_base_lidar = inverse(pipeline.lookup(header.frame_id, base, header.stamp_ns))
            if pipeline.place_map is None:
                frame = pipeline.parameters.map_frame
                header_of_map = Observer(pipeline.perceiver).header(frame, header.frame_id)
                pipeline.place_map = PlaceMap(None, header_of_map)
            place = Place(
                perception.observation,
                T_map_base @ T_base_lidar,
                header.stamp_ns,
                "live",
                request.place_id,
            )
            number = pipeline.place_map.add(place)
        except CondenseError as error:
            response.success, response.message = False, str(error)
            return response
        response.success, response.message = True, "stored; `save_map` writes it"
        response.place_id = pipeline.place_map.label(number)
        return response

    def _pose_to_store(self, request: Any, pipeline: Pipeline, header: Header) -> Array:
        if request.use_pose:
            return pose_from_message(request.pose, "the pose of the request")
        frames = pipeline.map_frame, pipeline.parameters.base_frame
        try:
            return pipeline.lookup(*frames, header.stamp_ns)
        except CalibrationMissing as error:
            raise CalibrationMissing(
                error.problem, f"publish {frames[0]} -> {frames[1]} on tf, or give a pose"
            ) from error

    def _query_text(self, request: Any, response: Any) -> Any:
        response.success = False
        response.message = (
            "this checkpoint has no text tower, so places cannot be found by words. Fix: distil "
            "from a teacher that has one"
        )
        return response

    def _configured(self) -> Pipeline:
        if self.pipeline is None:
            raise ConfigError(self._problem or "the node is not configured", "configure it first")
        return self.pipeline


def _names() -> list[str]:
    return [field.name for field in dataclasses.fields(PerceptionParameters)]


def _checked(values: dict[str, Any]) -> PerceptionParameters:
    parameters = build(PerceptionParameters, values)
    if parameters.relocalise_mode not in MODES:
        raise ConfigError(
            f"relocalise_mode = {parameters.relocalise_mode!r}", f"use one of: {', '.join(MODES)}"
        )
    return parameters


def _make() -> PerceptionNode:
    node = PerceptionNode()
    if node.get_parameter("autostart").value:
        configured = node.trigger_configure()
        if configured == TransitionCallbackReturn.SUCCESS:
            node.trigger_activate()
    return node


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the node until it is interrupted; with `autostart` it configures and activates."""
    return run(_make, argv)


if __name__ == "__main__":
    sys.exit(main())
