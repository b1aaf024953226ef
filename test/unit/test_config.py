"""Parameter dataclasses: what is accepted, what is refused and why."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest

from condense_ros.config import build, describe, parameter
from condense_ros.errors import ConfigError


@dataclass(frozen=True)
class Config:
    rate_hz: float = parameter(10.0, "rate", low=0.1, high=100.0)
    count: int = parameter(3, "how many", low=0)
    name: str = parameter("robot", "its name")
    fast: bool = parameter(False, "skip checks")
    out: Path = parameter(Path("out"), "where")  # noqa: RUF009
    widths: tuple[int, ...] = parameter((16, 32), "channels", low=1)
    pair: tuple[float, float] = parameter((0.0, 1.0), "from, to")
    limit_m: float | None = parameter(None, "limit or none", low=0.0)
    topics: list[str] = parameter(["a"], "topics")  # noqa: RUF009
    weights: dict[str, float] = parameter({"a": 1.0}, "weights", low=0.0)  # noqa: RUF009


def test_defaults_and_conversions() -> None:
    assert build(Config) == Config()
    config = build(
        Config, {"rate_hz": 5, "out": "x/y", "widths": [8, 16], "limit_m": 2, "pair": [1, 2]}
    )
    assert (config.rate_hz, config.out, config.widths) == (5.0, Path("x/y"), (8, 16))
    assert isinstance(config.rate_hz, float)
    assert config.limit_m == 2.0
    assert build(Config, {"limit_m": None}).limit_m is None
    assert build(Config, {"topics": ["b", "c"]}).topics == ["b", "c"]
    assert build(Config, {"weights": {"b": 2}}).weights == {"b": 2.0}


def test_mutable_defaults_are_not_shared() -> None:
    assert Config().topics is not Config().topics


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"rate_hz": 0.0}, ["Config.rate_hz", "0.1", "100"]),
        ({"rate_hz": float("nan")}, ["Config.rate_hz", "range"]),
        ({"rate_hz": "fast"}, ["Config.rate_hz", "float"]),
        ({"rate_hz": True}, ["Config.rate_hz"]),
        ({"count": 1.5}, ["Config.count", "int"]),
        ({"count": -1}, ["Config.count", "0"]),
        ({"fast": 1}, ["Config.fast", "bool"]),
        ({"name": 3}, ["Config.name", "str"]),
        ({"out": 3}, ["Config.out"]),
        ({"widths": [8, 0]}, ["Config.widths"]),
        ({"widths": "16"}, ["Config.widths"]),
        ({"pair": [1.0]}, ["Config.pair"]),
        ({"limit_m": -1.0}, ["Config.limit_m"]),
        ({"topics": [1]}, ["Config.topics"]),
        ({"weights": {"a": -1.0}}, ["Config.weights"]),
        ({"ratehz": 1.0}, ["ratehz", "rate_hz"]),
    ],
)
def test_bad_values_are_refused_by_name(values: dict[str, object], names: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Config, values)
    assert all(name in str(caught.value) for name in names), str(caught.value)
    assert caught.value.exit_code == 2


def test_parameters_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        build(Config).count = 4  # type: ignore[misc]


def test_describe_lists_every_parameter_with_default_and_help() -> None:
    rows = {name: (kind, default, help) for name, kind, default, help in describe(Config)}
    assert rows["rate_hz"] == ("float", 10.0, "rate")
    assert rows["topics"][1] == ["a"]
    assert len(rows) == 10
