"""The classes of the simulated town."""

from __future__ import annotations

import numpy as np

from condense_ros.ontology import Ontology

_CLASSES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("road", (128, 64, 128)),
    ("pavement", (244, 35, 232)),
    ("terrain", (152, 251, 152)),
    ("building", (70, 70, 70)),
    ("wall", (102, 102, 156)),
    ("fence", (190, 153, 153)),
    ("pole", (153, 153, 153)),
    ("sign", (220, 220, 0)),
    ("trunk", (120, 70, 20)),
    ("foliage", (40, 140, 35)),
    ("hedge", (107, 180, 35)),
    ("car", (0, 0, 200)),
    ("van", (0, 60, 100)),
    ("person", (220, 20, 60)),
    ("bicycle", (119, 11, 32)),
    ("clutter", (250, 140, 30)),
)

#: names and colours of the label values 0 .. 15 that simulated frames carry
ontology = Ontology(
    tuple(name for name, _ in _CLASSES),
    np.array([colour for _, colour in _CLASSES], np.uint8),
)

(
    ROAD,
    PAVEMENT,
    TERRAIN,
    BUILDING,
    WALL,
    FENCE,
    POLE,
    SIGN,
    TRUNK,
    FOLIAGE,
    HEDGE,
    CAR,
    VAN,
    PERSON,
    BICYCLE,
    CLUTTER,
) = range(len(_CLASSES))
