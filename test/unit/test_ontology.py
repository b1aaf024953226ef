"""Ontologies: identity, colours, refusals."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from condense_ros.errors import ConfigError
from condense_ros.frame import IGNORE
from condense_ros.ontology import Ontology

TWO = Ontology(("ground", "wall"), np.array([[90, 91, 92], [200, 10, 255]]))


def test_round_trip_and_identity() -> None:
    again = Ontology.from_dict(json.loads(json.dumps(TWO.to_dict())))
    assert again == TWO
    assert hash(again) == hash(TWO)
    assert TWO.to_dict()["colours"] == ["#5a5b5c", "#c80aff"]
    swapped = Ontology(("wall", "ground"), TWO.colours)
    recoloured = Ontology(TWO.names, TWO.colours[::-1])
    assert len({TWO.hash(), swapped.hash(), recoloured.hash()}) == 3
    assert Ontology.from_dict({"names": ["a"], "colours": [[1, 2, 3]]}).colours.tolist() == [
        [1, 2, 3]
    ]


def test_lookups() -> None:
    assert TWO.index("wall") == 1
    with pytest.raises(ConfigError, match="no class 'car'"):
        TWO.index("car")
    labels = np.array([[0, 1], [IGNORE, 2]], np.uint8)
    assert TWO.colourise(labels).tolist() == [
        [[90, 91, 92], [200, 10, 255]],
        [[0, 0, 0], [0, 0, 0]],
    ]
    with pytest.raises(ValueError, match="read-only"):
        TWO.colours[0] = 0


@pytest.mark.parametrize(
    ("names", "colours"),
    [
        ((), np.zeros((0, 3), int)),
        (("a", "a"), np.zeros((2, 3), int)),
        (("a", ""), np.zeros((2, 3), int)),
        (("a",), np.zeros((1, 4), int)),
        (("a",), np.full((1, 3), 256)),
        (("a",), np.zeros((1, 3))),
        (tuple(map(str, range(256))), np.zeros((256, 3), int)),
    ],
)
def test_bad_ontologies(names: tuple[str, ...], colours: Any) -> None:
    with pytest.raises(ConfigError):
        Ontology(names, colours)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"names": ["a"]},
        {"names": ["a"], "colours": ["red"]},
        {"names": ["a"], "colours": [[1, 2]]},
        {"names": ["a"], "colours": 3},
        {"names": ["a"], "colours": [[10**30, 0, 0]]},
    ],
)
def test_bad_plain_values(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Ontology.from_dict(values)
