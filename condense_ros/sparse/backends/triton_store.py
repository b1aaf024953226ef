"""Tuned tiles by device, kept in the user's cache folder from one process to the next."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path

from condense_ros.errors import CondenseError
from condense_ros.files import write_json
from condense_ros.sparse.backends.triton_tiles import Shape, Tiles

_FORMAT = 1
#: how many doublings of the number of rows a tuned result is still better than a default
_NEAR = 3
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where results lie: $XDG_CACHE_HOME or ~/.cache, then condense_ros/triton."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "condense_ros" / "triton"


def path_of(device_name: str) -> Path:
    """The file of a device."""
    return cache_folder() / f"{re.sub(r'[^A-Za-z0-9]+', '-', device_name).strip('-')}.json"


class TunedTiles:
    """What was found for one device.

    A file that cannot be read or says nonsense is told about in the log and counts as empty; the
    next tuning replaces it.
    """

    def __init__(self, device_name: str, path: Path | None = None) -> None:
        self.device_name = device_name
        self.path = path or path_of(device_name)
        self._known = self._read()
        self._nearest: dict[Shape, Tiles | None] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def has(self, shape: Shape) -> bool:
        """Whether exactly this shape has been tuned."""
        return shape.name in self._known

    def find(self, shape: Shape) -> Tiles | None:
        """Tiles of this shape, or of the same layer over the nearest number of rows."""
        if shape not in self._nearest:
            self._nearest[shape] = self._search(shape)
        return self._nearest[shape]

    def _search(self, shape: Shape) -> Tiles | None:
        for distance in range(_NEAR + 1):
            for bucket in (shape.bucket + distance, shape.bucket - distance):
                near = Shape(
                    shape.kind, shape.precision, shape.c_in, shape.c_out, shape.kernel, bucket
                )
                if near.name in self._known:
                    return self._known[near.name]
        return None

    def forget(self, shape: Shape) -> None:
        """Leaves the stored tiles of a shape out of use in this process."""
        self._nearest[shape] = None

    def add(self, found: Mapping[Shape, Tiles]) -> None:
        """Adds results and writes the file, keeping what other processes have written meanwhile.

        Raises:
            StorageFull: no room; the file is as it was before.
            OSError: the folder cannot be written.
        """
        with self._lock:
            self._known = {**self._read(), **{shape.name: tiles for shape, tiles in found.items()}}
            self._nearest.clear()
            tiles = {name: self._known[name].to_dict() for name in sorted(self._known)}
            content = {"format": _FORMAT, "device": self.device_name, "tiles": tiles}
            write_json(self.path, content)

    def _read(self) -> dict[str, Tiles]:
        try:
            content = json.loads(self.path.read_text())
            if content["format"] != _FORMAT or content["device"] != self.device_name:
                raise ValueError(f"format {content['format']} of {content['device']}")
            return {name: Tiles.from_dict(values) for name, values in content["tiles"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, CondenseError) as error:
            _log.warning("tuned tiles in %s are not used: %s", self.path, error)
            return {}
