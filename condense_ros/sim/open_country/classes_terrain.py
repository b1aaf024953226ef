"""The classes of the simulated open country."""

from __future__ import annotations

import numpy as np

from condense_ros.ontology import Ontology

_CLASSES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("grass", (124, 200, 80)),
    ("tall_grass", (180, 220, 90)),
    ("crop", (230, 200, 60)),
    ("soil", (140, 100, 70)),
    ("track", (200, 170, 130)),
    ("water", (60, 140, 230)),
    ("rock", (130, 130, 140)),
    ("trunk", (100, 60, 20)),
    ("foliage", (30, 120, 40)),
    ("bush", (90, 150, 30)),
    ("log", (170, 110, 60)),
    ("fence", (190, 153, 153)),
    ("pole", (160, 160, 200)),
    ("building", (90, 70, 70)),
    ("bale", (250, 220, 130)),
    ("vehicle", (0, 0, 200)),
    ("animal", (230, 110, 200)),
    ("person", (220, 20, 60)),
)

#: names and colours of the label values that frames from open country carry
ontology = Ontology(
    tuple(name for name, _ in _CLASSES),
    np.array([colour for _, colour in _CLASSES], np.uint8),
)

(
    GRASS,
    TALL_GRASS,
    CROP,
    SOIL,
    TRACK,
    WATER,
    ROCK,
    TRUNK,
    FOLIAGE,
    BUSH,
    LOG,
    FENCE,
    POLE,
    BUILDING,
    BALE,
    VEHICLE,
    ANIMAL,
    PERSON,
) = range(len(_CLASSES))
