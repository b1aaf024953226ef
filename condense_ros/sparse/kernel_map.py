"""`KernelMap`: which input row meets which output row under which kernel offset.

Two forms of the same thing, each made from the other when somebody asks for it: lists of pairs
grouped by offset (what CPUs multiply) and a table of partners (what GPUs multiply).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a convolution, grouped by kernel offset.

    Attributes:
        source: (P,) int32 input rows; the pairs of offset k are one contiguous run.
        target: (P,) int32 output rows, unique within a run.
        counts: K run lengths, offsets ordered x slowest, z fastest.
        source_sorted, target_sorted: rows ascend within every run.
    """

    source: Tensor
    target: Tensor
    counts: tuple[int, ...]
    source_sorted: bool = False
    target_sorted: bool = False

    @cached_property
    def starts(self) -> Tensor:
        """(K + 1,) int64 on the CPU: where each run starts, and the end."""
        return torch.tensor((0, *self.counts)).cumsum(0)

    @cached_property
    def offset(self) -> Tensor:
        """(P,) int64, the kernel offset of each pair."""
        counts = torch.tensor(self.counts, device=self.source.device)
        return torch.repeat_interleave(
            torch.arange(len(self.counts), device=self.source.device),
            counts,
            output_size=len(self.source),
        )

    @cached_property
    def by_target(self) -> Pairs:
        """The same pairs with target rows ascending in every run."""
        if self.target_sorted or not len(self.source):
            return self
        order = torch.argsort((self.offset << 32) + self.target)
        return Pairs(self.source[order], self.target[order], self.counts, False, True)

    def exchanged(self) -> Pairs:
        """Input and output exchanged."""
        return Pairs(self.target, self.source, self.counts, self.target_sorted, self.source_sorted)


class KernelMap:
    """Geometry of one convolution; see `MapCache` for where it comes from.

    Attributes:
        kernel_size: number K of kernel offsets, ordered x slowest, z fastest.
        n_source, n_target: rows of the input and of the output.
        identity: index of the offset under which every row meets itself, or -1. The lists of pairs
            leave it out (its run is empty), the table has it.
        symmetric: the pairs of offset K - 1 - k are those of offset k exchanged, as in submanifold
            convolutions.
        kept: what backends have derived from this map, by names of their own.

    Args:
        pairs, table: one of the two forms.
    """

    def __init__(
        self,
        kernel_size: int,
        n_source: int,
        n_target: int,
        identity: int = -1,
        *,
        pairs: Pairs | None = None,
        table: Tensor | None = None,
        symmetric: bool = False,
    ) -> None:
        if (pairs is None) == (table is None):
            raise ValueError("give pairs or a table")
        self.kernel_size, self.identity = kernel_size, identity
        self.n_source, self.n_target = n_source, n_target
        self.symmetric = symmetric
        self.kept: dict[object, object] = {}
        if pairs is not None:
            self.pairs = pairs
        if table is not None:
            self.table = table

    @cached_property
    def pairs(self) -> Pairs:
        """Lists of pairs. Made from a table on a GPU they cost a synchronisation."""
        table = self.table
        if self.identity >= 0:
            table = table.clone()
            table[self.identity] = -1
        offset, target = (table >= 0).nonzero(as_tuple=True)
        counts = torch.bincount(offset, minlength=self.kernel_size).tolist()
        return Pairs(table[offset, target], target.int(), tuple(counts), False, True)

    @cached_property
    def table(self) -> Tensor:
        """(K, n_target) int32: the input row under each offset, -1 where there is none."""
        pairs = self.pairs
        shape = (self.kernel_size, self.n_target)
        table = torch.full(shape, -1, dtype=torch.int32, device=pairs.source.device)
        table[pairs.offset, pairs.target.long()] = pairs.source
        if self.identity >= 0:
            table[self.identity] = torch.arange(
                self.n_target, dtype=torch.int32, device=table.device
            )
        return table

    @property
    def source(self) -> Tensor:
        return self.pairs.source

    @property
    def target(self) -> Tensor:
        return self.pairs.target

    @property
    def counts(self) -> tuple[int, ...]:
        return self.pairs.counts

    @cached_property
    def runs(self) -> tuple[tuple[int, Tensor, Tensor], ...]:
        """(offset index, source rows, target rows) of every offset that has pairs."""
        counts = self.counts
        sources, targets = self.source.split(counts), self.target.split(counts)
        triples = zip(range(len(counts)), sources, targets, strict=True)
        return tuple(triple for triple in triples if len(triple[1]))

    @property
    def device(self) -> torch.device:
        have = self.__dict__
        return (have["pairs"].source if "pairs" in have else self.table).device

    @property
    def n_pairs(self) -> int:
        """Number of products, each of C_in x C_out multiply-accumulates."""
        return len(self.source) + (self.n_target if self.identity >= 0 else 0)

    @cached_property
    def transposed(self) -> KernelMap:
        """The map of the transposed convolution: same offsets, input and output exchanged."""
        have = "pairs" in self.__dict__
        other = KernelMap(
            self.kernel_size,
            self.n_target,
            self.n_source,
            self.identity,
            pairs=self.pairs.exchanged() if have else None,
            table=None if have else self._exchanged_table(),
            symmetric=self.symmetric,
        )
        # each is the other's transpose: forward and backward share what either has made
        other.__dict__["transposed"] = self
        return other

    def _exchanged_table(self) -> Tensor:
        if self.symmetric:
            return self.table.flip(0)
        # without leaving the device: rows that are missing write into a column that is cut off
        k, n = self.kernel_size, self.n_source
        table = torch.full((k, n + 1), -1, dtype=torch.int32, device=self.table.device)
        rows = torch.arange(self.n_target, dtype=torch.int32, device=self.table.device)
        column = torch.where(self.table >= 0, self.table, n).long()
        table.scatter_(1, column, rows.expand(k, -1).contiguous())
        return table[:, :n].contiguous()


def identity_map(rows: int, device: torch.device | str = "cpu") -> KernelMap:
    """The map of a 1x1x1 kernel: every row meets itself."""
    empty = torch.empty(0, dtype=torch.int32, device=device)
    pairs = Pairs(empty, empty, (0,), True, True)
    return KernelMap(1, rows, rows, 0, pairs=pairs, symmetric=True)
