"""Set operations on the voxels of sparse tensors. Each gives a new geometry; gradients flow."""

from __future__ import annotations

import torch
from torch import Tensor

from condense_ros.errors import SparseError
from condense_ros.sparse import keys as _keys
from condense_ros.sparse import search
from condense_ros.sparse.tensor import SparseTensor

REDUCTIONS = ("sum", "mean", "first")


def prune(x: SparseTensor, keep: Tensor) -> SparseTensor:
    """The voxels where `keep`, in their order, with their features.

    Args:
        keep: (N,) bool.

    Raises:
        SparseError: a mask of another shape, dtype or device.
    """
    if keep.dtype != torch.bool or keep.shape != (len(x),) or keep.device != x.device:
        raise SparseError(
            f"keep is {keep.dtype} {tuple(keep.shape)} on {keep.device} for {len(x)} voxels",
            "give one bool per voxel, on their device",
        )
    return SparseTensor(x.features[keep], x.coords[keep], x.stride, batch_size=x.batch_size)


def union(a: SparseTensor, b: SparseTensor, reduce: str = "sum") -> SparseTensor:
    """The voxels of either tensor, sorted by coordinate.

    Args:
        reduce: what becomes of features of voxels that both have: their "sum", their "mean", or
            those of the "first" tensor. Voxels of one tensor keep theirs.

    Raises:
        SparseError: tensors of different stride, width or device, or an unknown reduction.
    """
    _check_pair(a, b)
    if reduce not in REDUCTIONS:
        raise SparseError(f"reduce is {reduce!r}", f"use one of: {', '.join(REDUCTIONS)}")
    if a.channels != b.channels:
        raise SparseError(
            f"{a.channels} and {b.channels} channels to unite", "bring both to one width first"
        )
    keys, place = search.unique(torch.cat([_keys.pack(a.coords), _keys.pack(b.coords)]))
    place_a, place_b = place.long().split([len(a), len(b)])
    dtype = torch.promote_types(a.features.dtype, b.features.dtype)
    fa, fb = a.features.to(dtype), b.features.to(dtype)
    out = fa.new_zeros(len(keys), a.channels)
    if reduce == "first":
        out = out.index_copy(0, place_b, fb).index_copy(0, place_a, fa)
    else:
        out = out.index_add(0, place_a, fa).index_add(0, place_b, fb)
    if reduce == "mean":
        out = out / torch.bincount(place.long(), minlength=len(keys))[:, None].to(dtype)
    batch = max(a.batch_size, b.batch_size)
    return SparseTensor(out, _keys.unpack(keys), a.stride, batch_size=batch)


def shared_rows(a: SparseTensor, b: SparseTensor) -> tuple[Tensor, Tensor]:
    """Rows of a and rows of b (K,) int64 of the voxels that both have, sorted by coordinate.

    `prune(a, mask of the first)` is the intersection; the pair of rows joins features of both.

    Raises:
        SparseError: tensors of different stride or device.
    """
    _check_pair(a, b)
    mine, other = a.maps.level(a.stride), b.maps.level(b.stride)
    place = search.lookup_table(other.keys, mine.keys, [0])[0].long()
    found = (place >= 0).nonzero().squeeze(1)
    return mine.rows(found).long(), other.rows(place[found]).long()


def _check_pair(a: SparseTensor, b: SparseTensor) -> None:
    if a.stride != b.stride or a.device != b.device:
        raise SparseError(
            f"tensors of strides {a.stride} and {b.stride} on {a.device} and {b.device}",
            "bring both to one stride and device first",
        )
