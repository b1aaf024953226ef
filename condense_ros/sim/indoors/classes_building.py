"""The classes of the simulated building: rooms, their furniture, and people."""

from __future__ import annotations

import numpy as np

from condense_ros.ontology import Ontology

_CLASSES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("floor", (152, 223, 138)),
    ("wall", (174, 199, 232)),
    ("ceiling", (225, 225, 225)),
    ("door", (214, 39, 40)),
    ("window", (140, 210, 255)),
    ("table", (255, 152, 150)),
    ("desk", (247, 182, 210)),
    ("chair", (188, 189, 34)),
    ("sofa", (140, 86, 75)),
    ("bed", (255, 187, 120)),
    ("shelf", (148, 103, 189)),
    ("cabinet", (31, 119, 180)),
    ("books", (23, 90, 40)),
    ("picture", (196, 156, 148)),
    ("curtain", (219, 219, 141)),
    ("radiator", (90, 90, 110)),
    ("lamp", (255, 240, 60)),
    ("plant", (44, 160, 44)),
    ("screen", (20, 20, 90)),
    ("refrigerator", (255, 127, 14)),
    ("sink", (112, 128, 144)),
    ("toilet", (44, 160, 200)),
    ("bathtub", (227, 119, 194)),
    ("box", (178, 120, 60)),
    ("stairs", (110, 60, 130)),
    ("person", (220, 20, 60)),
    ("clutter", (82, 84, 163)),
    ("outdoors", (120, 170, 90)),
)

#: names and colours of the label values that frames from buildings carry
ontology = Ontology(
    tuple(name for name, _ in _CLASSES),
    np.array([colour for _, colour in _CLASSES], np.uint8),
)

(
    FLOOR,
    WALL,
    CEILING,
    DOOR,
    WINDOW,
    TABLE,
    DESK,
    CHAIR,
    SOFA,
    BED,
    SHELF,
    CABINET,
    BOOKS,
    PICTURE,
    CURTAIN,
    RADIATOR,
    LAMP,
    PLANT,
    SCREEN,
    REFRIGERATOR,
    SINK,
    TOILET,
    BATHTUB,
    BOX,
    STAIRS,
    PERSON,
    CLUTTER,
    OUTDOORS,
) = range(len(_CLASSES))
