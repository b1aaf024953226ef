"""Recipes by name. A recipe module offers its config class, presets and `build_recipe`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from condense_ros import config as _config
from condense_ros.errors import ConfigError
from condense_training.recipe import Recipe
from condense_training.recipes import janda, olivine, supervised


@dataclass(frozen=True)
class RecipeEntry:
    """One recipe: its parameters, named sets of them, and how a `Recipe` is made from them."""

    config: type
    presets: Mapping[str, Any]
    build: Callable[[Any], Recipe]


RECIPES: dict[str, RecipeEntry] = {
    "janda": RecipeEntry(janda.JandaConfig, janda.PRESETS, janda.build_recipe),
    "olivine": RecipeEntry(olivine.OlivineConfig, olivine.PRESETS, olivine.build_recipe),
    "supervised": RecipeEntry(
        supervised.SupervisedConfig, supervised.PRESETS, supervised.build_recipe
    ),
}


def build_recipe(name: str, preset: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of that name and preset, with some parameters set otherwise.

    Raises:
        ConfigError: unknown recipe, preset or parameter, or a value out of range.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}", f"use one of: {', '.join(RECIPES)}")
    entry = RECIPES[name]
    if preset not in entry.presets:
        raise ConfigError(
            f"recipe {name!r} has no preset {preset!r}", f"use one of: {', '.join(entry.presets)}"
        )
    return entry.build(_config.changed(entry.presets[preset], settings or {}))


__all__ = ["RECIPES", "RecipeEntry", "build_recipe"]
