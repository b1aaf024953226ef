"""Scan Context, the field's usual baseline for finding places with a spinning LiDAR.

G. Kim, A. Kim, "Scan Context: Egocentric Spatial Descriptor for Place Recognition Within 3D Point
Cloud Map", IROS 2018.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense_ros.errors import GeometryError
from condense_ros.geometry import Array

RINGS, SECTORS, RANGE_M = 20, 60, 80.0
#: heights are counted from this far below the sensor, so that the ground is not negative
GROUND_M = 2.0


def scan_context(xyz: npt.NDArray[np.floating], range_m: float = RANGE_M) -> Array:
    """(20, 60) greatest height above the ground by ring and sector; 0 where nothing lies.

    Args:
        xyz: (N, 3) metres, lidar frame, z up; non-finite rows are left out.
        range_m: outer radius of the last ring.

    Raises:
        GeometryError: `xyz` is not (N, 3).
    """
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise GeometryError(f"points have shape {xyz.shape}", "give an array (N, 3)")
    xyz = xyz[np.isfinite(xyz).all(axis=1)].astype(np.float64)
    ring = (np.hypot(xyz[:, 0], xyz[:, 1]) * (RINGS / range_m)).astype(np.int64)
    turn = np.arctan2(xyz[:, 1], xyz[:, 0]) / (2 * np.pi)
    sector = np.floor(turn * SECTORS).astype(np.int64) % SECTORS
    context = np.zeros((RINGS, SECTORS))
    near = ring < RINGS
    np.maximum.at(context, (ring[near], sector[near]), xyz[near, 2] + GROUND_M)
    return context


def ring_key(context: Array) -> Array:
    """(..., 20) mean height of each ring of contexts (..., 20, 60): the same from every heading."""
    return np.asarray(context.mean(axis=-1))


def distances(query: Array, stored: Array) -> tuple[Array, npt.NDArray[np.int64]]:
    """Distance of one context to many, over all headings (equations 5 to 7 of the paper).

    Columns are compared by their cosine; columns that are empty on either side do not count.

    Args:
        query: (20, 60). stored: (P, 20, 60).

    Returns:
        distance (P,) 0..1, and shift (P,): by how many sectors the query is turned to the left
        against the stored sweep.
    """
    a, a_there = _columns(query[None])
    b, b_there = _columns(stored)
    # correlation over the cyclic sector axis: entry s compares query column j + s with column j
    cosine = np.fft.irfft(
        (np.fft.rfft(a, axis=-1) * np.fft.rfft(b, axis=-1).conj()).sum(axis=1), n=SECTORS, axis=-1
    )
    both = np.fft.irfft(
        np.fft.rfft(a_there, axis=-1) * np.fft.rfft(b_there, axis=-1).conj(), n=SECTORS, axis=-1
    )
    both = np.round(both)
    distance = 1 - np.where(both > 0, cosine / np.maximum(both, 1), 0.0)
    shift = distance.argmin(axis=1)
    return np.clip(distance[np.arange(len(stored)), shift], 0.0, 1.0), shift


def _columns(contexts: Array) -> tuple[Array, Array]:
    norm = np.linalg.norm(contexts, axis=1)
    return contexts / np.maximum(norm, 1e-12)[:, None], (norm > 1e-12).astype(np.float64)


def retrieve(query: Array, stored: Array, k: int, candidates: int = 0) -> npt.NDArray[np.int64]:
    """The `k` nearest of stored contexts (P, 20, 60), best first.

    Args:
        candidates: compare in full only this many, chosen by ring key as in the paper's two-step
            search; 0 compares all, which never finds worse.
    """
    rows = np.arange(len(stored))
    if 0 < candidates < len(stored):
        gap = np.linalg.norm(ring_key(stored) - ring_key(query), axis=1)
        rows = np.argsort(gap, kind="stable")[:candidates]
    order = np.argsort(distances(query, stored[rows])[0], kind="stable")[:k]
    return np.asarray(rows[order])
