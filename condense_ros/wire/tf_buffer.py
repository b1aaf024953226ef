"""Transforms by time: a tree of frames, looked up through the nearest common ancestor."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

import numpy as np

from condense_ros.errors import CalibrationMissing, GeometryError
from condense_ros.geometry import Array, check_se3, interpolate_pose, inverse
from condense_ros.wire.header import SECOND_NS
from condense_ros.wire.poses import StampedTransform

#: different poses of one static link that are remembered
_STATIC_HISTORY = 256


@dataclass
class _Link:
    """How a frame hangs on its parent, and its poses by stamp."""

    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    poses: list[Array] = field(default_factory=list)
    last: Array | None = None


class TfBuffer:
    """Transforms of the last `cache_s` seconds per link; static ones for ever.

    Dynamic transforms are interpolated, never extrapolated. A static transform holds from its stamp
    until another one is published for the same link; at times before all stamps (a mounting is
    often stamped when its publisher started, or by another clock) the one that came last holds, as
    in tf2. A link that is missing, or not known at the time asked for, raises; identity is never
    assumed.
    """

    def __init__(self, cache_s: float = 10.0) -> None:
        self._cache_ns = int(cache_s * SECOND_NS)
        self._links: dict[str, _Link] = {}

    def add(self, transform: StampedTransform, static: bool = False) -> bool:
        """Takes a transform; False when it is older than the cache and was left out.

        A frame that appears under another parent, or changes between static and dynamic, starts
        anew.

        Raises:
            GeometryError: T is not a rigid motion, or the link would close a loop.
        """
        parent, child = transform.parent, transform.child
        T = check_se3(transform.T, f"transform {parent} -> {child}")
        link = self._links.get(child)
        if link is None or link.parent != parent or link.static != static:
            if child in self._ancestors(parent):
                raise GeometryError(
                    f"transform {parent} -> {child} closes a loop of frames",
                    "publish each frame below one parent; find the second publisher",
                )
            link = self._links[child] = _Link(parent, static)
        if static:
            self._add_static(link, transform.stamp_ns, T)
            return True
        stamps = link.stamps
        if stamps and transform.stamp_ns < stamps[-1] - self._cache_ns:
            return False
        at = bisect_left(stamps, transform.stamp_ns)
        if at < len(stamps) and stamps[at] == transform.stamp_ns:
            link.poses[at] = T
            return True
        stamps.insert(at, transform.stamp_ns)
        link.poses.insert(at, T)
        old = bisect_left(stamps, stamps[-1] - self._cache_ns)
        if old > 64 or old > len(stamps) // 2:  # in strides: deleting from the front is linear
            del stamps[:old], link.poses[:old]
        return True

    @staticmethod
    def _add_static(link: _Link, stamp_ns: int, T: Array) -> None:
        link.last = T
        at = bisect_left(link.stamps, stamp_ns)
        if at < len(link.stamps) and link.stamps[at] == stamp_ns:
            link.poses[at] = T
        elif at == 0 or not np.array_equal(link.poses[at - 1], T):
            # publishers that repeat themselves add nothing; a mounting that changed does
            link.stamps.insert(at, stamp_ns)
            link.poses.insert(at, T)
            del link.stamps[:-_STATIC_HISTORY], link.poses[:-_STATIC_HISTORY]

    def clear(self) -> None:
        """Forgets dynamic transforms, as after a jump of the clock; static ones stay."""
        self._links = {child: link for child, link in self._links.items() if link.static}

    @property
    def frames(self) -> tuple[str, ...]:
        """All frames known, sorted."""
        parents = {link.parent for link in self._links.values()}
        return tuple(sorted(parents | set(self._links)))

    def _ancestors(self, frame: str) -> list[str]:
        """The frame, its parent, ... up to the root."""
        chain = [frame]
        while (link := self._links.get(chain[-1])) is not None:
            chain.append(link.parent)
        return chain

    def _paths(self, target: str, source: str) -> tuple[list[str], list[str]]:
        """Frames to climb from source and from target to their common ancestor."""
        up_source, up_target = self._ancestors(source), self._ancestors(target)
        above = set(up_target)
        common = next((frame for frame in up_source if frame in above), None)
        if common is None:
            missing = [name for name in (target, source) if name not in self.frames]
            raise CalibrationMissing(
                f"no transform between {target!r} and {source!r}: "
                + (
                    f"frame {' and '.join(map(repr, missing))} appears in no transform"
                    if missing
                    else f"no link joins the tree of {up_target[-1]!r} with that of "
                    f"{up_source[-1]!r}"
                ),
                "publish it on /tf_static (a fixed mounting) or /tf; it is never assumed",
            )
        return up_source[: up_source.index(common)], up_target[: up_target.index(common)]

    def _at(self, child: str, stamp_ns: int | None) -> Array:
        """T_parent_child at a time; the newest for None."""
        link = self._links[child]
        stamps = link.stamps
        if link.last is not None:
            at = 0 if stamp_ns is None else bisect_right(stamps, stamp_ns)
            return link.poses[at - 1] if at else link.last
        if stamp_ns is None:
            return link.poses[-1]
        at = bisect_left(stamps, stamp_ns)
        if at < len(stamps) and stamps[at] == stamp_ns:
            return link.poses[at]
        if at in (0, len(stamps)):
            raise CalibrationMissing(
                f"transform {link.parent} -> {child} is not known at {stamp_ns / SECOND_NS:.6f} s: "
                f"oldest {stamps[0] / SECOND_NS:.6f} s, newest {stamps[-1] / SECOND_NS:.6f} s",
                "wait for it, check that all clocks agree, or keep more with cache_s",
            )
        fraction = (stamp_ns - stamps[at - 1]) / (stamps[at] - stamps[at - 1])
        return interpolate_pose(link.poses[at - 1], link.poses[at], fraction)

    def lookup(self, target: str, source: str, stamp_ns: int | None = None) -> Array:
        """T_target_source (4, 4): maps points of `source` into `target` at `stamp_ns`.

        Args:
            stamp_ns: None takes the newest transform of every link.

        Raises:
            CalibrationMissing: the frames are not connected, or a link is not known at that time.
        """
        if target == source:
            return np.eye(4)
        from_source, from_target = self._paths(target, source)
        T_common_source, T_common_target = np.eye(4), np.eye(4)
        for child in from_source:
            T_common_source = self._at(child, stamp_ns) @ T_common_source
        for child in from_target:
            T_common_target = self._at(child, stamp_ns) @ T_common_target
        return inverse(T_common_target) @ T_common_source

    def newest(self, target: str, source: str) -> int | None:
        """The latest stamp at which `lookup` can answer; None when all links are static.

        Raises:
            CalibrationMissing: the frames are not connected.
        """
        if target == source:
            return None
        from_source, from_target = self._paths(target, source)
        links = [self._links[child] for child in from_source + from_target]
        return min((link.stamps[-1] for link in links if not link.static), default=None)

    def is_static(self, target: str, source: str) -> bool:
        """Whether only static links lie between the frames.

        Raises:
            CalibrationMissing: the frames are not connected.
        """
        return self.newest(target, source) is None
