"""CDR bytes <-> message objects, through the `rosbags` type system (no ROS needed)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from condense_ros.errors import WireError
from condense_ros.resources import interface_files

Bytes = bytes | bytearray | memoryview

#: a message larger than this is refused before anything is parsed
MAX_MESSAGE_BYTES = 1 << 30


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """The message types this project knows: ROS 2 Jazzy's own and condense_msgs.

    Raises:
        EnvironmentProblem: the installation lacks the definitions of condense_msgs.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    own: dict[str, Any] = {}
    for name, path in interface_files().items():
        if "/msg/" in name:
            own.update(get_types_from_msg(path.read_text(), name))
    store.register(own)
    return store


def _known(type_name: str) -> Typestore:
    store = typestore()
    if type_name not in store.types:
        raise WireError(
            f"message type {type_name!r} is unknown",
            "use a type of the ROS 2 common interfaces or of condense_msgs",
        )
    return store


def definition(type_name: str) -> str:
    """The type's definition with those of its parts (ros2msg text, as MCAP schemas hold it).

    Raises:
        WireError: unknown type.
    """
    return _known(type_name).generate_msgdef(type_name, ros_version=2)[0]


def type_hash(type_name: str) -> str:
    """The type's RIHS01 hash, which ROS 2 compares before it connects two endpoints.

    Raises:
        WireError: unknown type.
    """
    return _known(type_name).hash_rihs01(type_name)


def serialize(type_name: str, message: Any) -> bytes:
    """Little-endian CDR with the 4-byte encapsulation header, as rclpy writes it.

    Raises:
        WireError: unknown type, or a field whose value does not fit its type.
    """
    store = _known(type_name)
    try:
        return bytes(store.serialize_cdr(message, type_name, little_endian=True))
    # generated code: a wrong value shows as any of a dozen exception types
    except Exception as error:
        raise WireError(
            f"{type_name} cannot be serialised: {error}", "check the types of its fields"
        ) from error


def serialize_around(type_name: str, message: Any, data: npt.NDArray[Any]) -> bytes:
    """Bytes of a message whose `data` (uint8[]) is its last field but for single bytes after it.

    The payload is copied once, straight to its place: images and clouds are mostly payload.

    Args:
        message: with an empty `data`.
        data: C-contiguous, of any shape and dtype.

    Raises:
        WireError: as `serialize`, or more than `MAX_MESSAGE_BYTES`.
    """
    if data.nbytes > MAX_MESSAGE_BYTES:
        raise WireError(
            f"{type_name} of {data.nbytes} bytes is over the limit of {MAX_MESSAGE_BYTES}",
            "publish smaller messages",
        )
    empty = serialize(type_name, message)
    fields = [name for name, _ in typestore().fielddefs[type_name][1]]
    end = len(empty) - (len(fields) - 1 - fields.index("data"))
    length = int(data.nbytes).to_bytes(4, "little")
    return b"".join([empty[: end - 4], length, data.data, empty[end:]])


def deserialize(type_name: str, raw: Bytes) -> Any:
    """The message in CDR bytes of either byte order; its arrays are views of `raw`.

    Raises:
        WireError: unknown type, truncated or malformed bytes, more than `MAX_MESSAGE_BYTES`.
    """
    store = _known(type_name)
    view = memoryview(raw)
    if view.nbytes > MAX_MESSAGE_BYTES:
        raise WireError(
            f"{type_name} of {view.nbytes} bytes is over the limit of {MAX_MESSAGE_BYTES}",
            "publish smaller messages",
        )
    try:
        return store.deserialize_cdr(view, type_name)
    # generated code on foreign bytes: SerdeError, IndexError, OverflowError, ... all mean this
    except Exception as error:
        raise WireError(
            f"{view.nbytes} bytes are no {type_name}: {error}",
            "check the message type of the topic, and that the bag or network did not cut it short",
        ) from error


_SCALARS = {"string": "", "bool": False, "float32": 0.0, "float64": 0.0}


def _default(store: Typestore, description: Any) -> Any:
    kind, value = int(description[0]), description[1]
    if kind == 1:  # a number or string
        return _SCALARS.get(value[0], 0)
    if kind == 2:  # another message
        return _new(store, value)
    element, length = value
    count = length if kind == 3 else 0  # fixed array, or sequence
    if int(element[0]) == 1 and element[1][0] != "string":
        dtype = {"byte": "uint8", "char": "uint8"}.get(element[1][0], element[1][0])
        return np.zeros(count, dtype=dtype)
    return [_default(store, element) for _ in range(count)]


def _new(store: Typestore, type_name: str) -> Any:
    fields = store.fielddefs[type_name][1]
    return store.types[type_name](*(_default(store, description) for _, description in fields))


def message(type_name: str, **fields: Any) -> Any:
    """A new message with nested defaults (zeros, empty strings) and the given fields set.

    Raises:
        WireError: unknown type or field.
    """
    new = _new(_known(type_name), type_name)
    for name, value in fields.items():
        if not hasattr(new, name):
            raise WireError(
                f"{type_name} has no field {name!r}",
                f"use one of: {', '.join(vars(new))}",
            )
        setattr(new, name, value)
    return new


def has_header(type_name: str) -> bool:
    """Whether messages of this type are known to begin with a std_msgs/Header."""
    fields = typestore().fielddefs.get(type_name, ([], []))[1]
    return bool(fields) and fields[0][1][1] == "std_msgs/msg/Header"
