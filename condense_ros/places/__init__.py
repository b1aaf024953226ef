"""Places: where in a stored map was this cloud taken, or "unknown".

Names load on first use: LanceDB takes seconds to import, `condense --help` must not. The question
itself is `condense_ros.places.relocalise.relocalise(place_map, observation)`.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Lance logs every new table as a warning; read when it is first imported
os.environ.setdefault("LANCE_LOG", "error")

if TYPE_CHECKING:
    from condense_ros.places.evaluate import Trial, summarise
    from condense_ros.places.observation import Observation, observe
    from condense_ros.places.place import MapHeader, Place
    from condense_ros.places.place_map import MapInfo, PlaceMap, map_info
    from condense_ros.places.relocalise import PlaceAnswer, RelocaliseConfig

_WHERE = {
    "MapHeader": "place",
    "MapInfo": "place_map",
    "Observation": "observation",
    "Place": "place",
    "PlaceAnswer": "relocalise",
    "PlaceMap": "place_map",
    "RelocaliseConfig": "relocalise",
    "Trial": "evaluate",
    "map_info": "place_map",
    "observe": "observation",
    "summarise": "evaluate",
}
__all__ = [
    "MapHeader",
    "MapInfo",
    "Observation",
    "Place",
    "PlaceAnswer",
    "PlaceMap",
    "RelocaliseConfig",
    "Trial",
    "map_info",
    "observe",
    "summarise",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
