"""All furniture of buildings by kind, and who uses it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from condense_ros.sim.designs import Parts
from condense_ros.sim.figures import person
from condense_ros.sim.indoors import classes_building as c
from condense_ros.sim.indoors import fittings
from condense_ros.sim.indoors import furniture_home as home
from condense_ros.sim.indoors import furniture_office as office

#: makers of all furniture by kind
MAKERS: dict[str, Callable[[np.random.Generator], Parts]] = {
    "desk": office.desk,
    "office_chair": office.office_chair,
    "chair": office.chair,
    "meeting_table": lambda rng: office.table(rng, rng.uniform(1.9, 2.3), rng.uniform(0.9, 1.05)),
    "dining_table": lambda rng: office.table(rng, rng.uniform(0.9, 1.3), rng.uniform(0.85, 0.95)),
    "coffee_table": lambda rng: office.table(
        rng, rng.uniform(0.7, 1.0), rng.uniform(0.55, 0.65), rng.uniform(0.38, 0.48)
    ),
    "shelf": office.shelf,
    "cabinet": office.cabinet,
    "wardrobe": office.wardrobe,
    "sofa": home.sofa,
    "bed": home.bed,
    "bedside": home.bedside,
    "fridge": home.fridge,
    "kitchenette": home.kitchenette,
    "basin": home.basin,
    "toilet": home.toilet,
    "bathtub": home.bathtub,
    "monitor": office.monitor,
    "television": home.television,
    "keyboard": office.keyboard,
    "desk_lamp": fittings.desk_lamp,
    "floor_lamp": fittings.floor_lamp,
    "ceiling_panel": fittings.ceiling_panel,
    "pendant": fittings.pendant,
    "plant": fittings.plant,
    "box": fittings.box,
    "picture": fittings.picture,
    "whiteboard": office.whiteboard,
    "radiator": fittings.radiator,
    "curtain": fittings.curtain,
    "clutter": fittings.clutter,
    "stairs": fittings.stairs,
    "person_standing": person(c.PERSON, "standing"),
    "person_sitting": person(c.PERSON, "sitting"),
    "person_walking": person(c.PERSON, "walking"),
}
