"""Turns a frozen parameter dataclass into everything else that needs its parameters.

A component's parameters live in one frozen dataclass; YAML files, ROS parameters and command line
options are checked against it here, so a default or a unit is written down once.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from condense_ros.errors import ConfigError

T = TypeVar("T")


def parameter(
    default: Any, help: str, *, low: float | None = None, high: float | None = None
) -> Any:
    """A dataclass field with its help text and, for numbers, the closed range of valid values.

    Args:
        default: the default value (a list or dict is copied per instance).
        help: one sentence for `--help`, the parameter pages and ROS parameter descriptors.
        low, high: closed bounds, checked by `build`.
    """
    metadata = {"help": help, "low": low, "high": high}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _coerce(cls: type, name: str, kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        kind = next(option for option in options if option is not type(None))
        origin = typing.get_origin(kind)
    wrong = ConfigError(
        f"{cls.__name__}.{name} = {value!r} is not of type {getattr(kind, '__name__', kind)}",
        f"give {name} a value of that type",
    )
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise wrong
        inner = typing.get_args(kind)
        if inner[-1] is not Ellipsis and len(inner) != len(value):
            raise wrong
        return tuple(_coerce(cls, name, inner[0], item) for item in value)
    if origin is list:
        if not isinstance(value, (list, tuple)):
            raise wrong
        return [_coerce(cls, name, typing.get_args(kind)[0], item) for item in value]
    if origin is dict:
        if not isinstance(value, Mapping):
            raise wrong
        of_key, of_value = typing.get_args(kind)
        return {
            _coerce(cls, name, of_key, key): _coerce(cls, name, of_value, item)
            for key, item in value.items()
        }
    if kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    if kind is bool:
        if not isinstance(value, bool):
            raise wrong
        return value
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str):
        return value
    if isinstance(kind, type) and isinstance(value, kind) and kind not in (int, float):
        return value
    raise wrong


def build(cls: type[T], values: Mapping[str, Any] | None = None) -> T:
    """Makes `cls` from plain values, rejecting unknown names, wrong types and values out of range.

    Raises:
        ConfigError: with the parameter's name, the value and the valid range.
    """
    values = dict(values or {})
    kinds = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(
            f"{cls.__name__} has no parameter {', '.join(map(repr, unknown))}",
            f"use one of: {', '.join(fields)}",
        )
    checked = {}
    for name, value in values.items():
        value = _coerce(cls, name, kinds[name], value)
        low, high = fields[name].metadata.get("low"), fields[name].metadata.get("high")
        items = value.values() if isinstance(value, dict) else value
        for item in items if isinstance(value, (tuple, list, dict)) else (value,):
            if isinstance(item, bool) or not isinstance(item, (int, float)):
                continue
            # `not (a <= b)` also catches NaN, which every comparison lets through
            if (low is not None and not item >= low) or (high is not None and not item <= high):
                raise ConfigError(
                    f"{cls.__name__}.{name} = {value!r} is out of range",
                    f"choose {name} between {low if low is not None else '-inf'} "
                    f"and {high if high is not None else 'inf'}",
                )
        checked[name] = value
    return cls(**checked)


def changed(preset: T, values: Mapping[str, Any]) -> T:
    """A parameter dataclass with some fields set otherwise, checked as `build` does.

    Raises:
        ConfigError: unknown names, wrong types, values out of range.
    """
    checked = build(type(preset), values)
    chosen = {name: getattr(checked, name) for name in values}
    return dataclasses.replace(preset, **chosen)  # type: ignore[type-var]


def describe(cls: type) -> list[tuple[str, str, Any, str]]:
    """Rows (name, type, default, help) of a parameter dataclass, for reference pages and ROS."""
    kinds = typing.get_type_hints(cls)
    rows = []
    for field in dataclasses.fields(cls):
        default = (
            field.default_factory()
            if field.default_factory is not dataclasses.MISSING
            else field.default
        )
        kind = kinds[field.name]
        name = str(kind) if typing.get_origin(kind) else getattr(kind, "__name__", str(kind))
        rows.append((field.name, name, default, str(field.metadata.get("help", ""))))
    return rows
