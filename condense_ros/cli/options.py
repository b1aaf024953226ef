"""Options that several verbs share, and parameters of a component from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from condense_ros.config import build, describe
from condense_ros.errors import ConfigError

T = TypeVar("T")

Seed = Annotated[int, typer.Option(min=0, help="Seed; the same seed gives the same result.")]
Device = Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:1, or auto.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="Set one parameter; repeatable."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file with parameters.", dir_okay=False)
]


def parameter_values(file: Path | None, settings: Sequence[str] | None) -> dict[str, Any]:
    """Values of a YAML file, overridden by NAME=VALUE settings (VALUE is read as YAML).

    Raises:
        ConfigError: the file is missing or no YAML mapping, or a setting has no "=".
    """
    import yaml

    values: dict[str, Any] = {}
    if file is not None:
        try:
            content = yaml.safe_load(file.read_text())
        except OSError as error:
            raise ConfigError(
                f"{file} cannot be read: {error.strerror}", "give an existing YAML file"
            ) from None
        except yaml.YAMLError as error:
            raise ConfigError(f"{file} is no YAML: {error}", "correct the file") from None
        if not isinstance(content, dict):
            raise ConfigError(f"{file} holds no mapping", "write one `name: value` per line")
        values.update({str(name): value for name, value in content.items()})
    for setting in settings or ():
        name, equals, text = setting.partition("=")
        if not equals or not name:
            raise ConfigError(f"setting {setting!r} is not NAME=VALUE", "write -p name=value")
        try:
            values[name.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"value of {setting!r} is no YAML: {error}", "quote it") from None
    return values


def parameters(cls: type[T], file: Path | None, settings: Sequence[str] | None, **fixed: Any) -> T:
    """A component's parameters from file, settings, and options of their own (`fixed`).

    Raises:
        ConfigError: unknown names, wrong types, values out of range.
    """
    return build(cls, {**parameter_values(file, settings), **fixed})


def show_parameters(*classes: type, **inner: type) -> None:
    """Prints the parameters of components with type, default and meaning; those of a component
    `inner` are named INNER.NAME."""
    from rich.console import Console
    from rich.table import Table

    table = Table("parameter", "type", "default", "meaning", title="Parameters (-p NAME=VALUE)")
    named = [("", cls) for cls in classes] + [(f"{name}.", cls) for name, cls in inner.items()]
    for prefix, cls in named:
        for name, kind, default, meaning in describe(cls):
            table.add_row(prefix + name, kind, str(default), meaning)
    Console().print(table)


def resolve_device(name: str) -> str:
    """The torch device of that name; "auto" is the GPU where there is one.

    Raises:
        ConfigError: no such device on this machine.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise ConfigError(f"device {name!r} is unknown", "use cpu, cuda, cuda:N or auto")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device {name!r} is not available: torch {torch.__version__} sees no GPU",
            "use --device cpu, or run `condense doctor`",
        )
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} is not available: there are {torch.cuda.device_count()} GPUs",
            "choose a smaller number",
        )
    return name
