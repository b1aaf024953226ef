"""What a backend of sparse convolutions does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from condense_ros.sparse.kernel_map import KernelMap


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What happens to the sums before they are written: sum * scale + shift + residual, rectified.

    Attributes:
        scale, shift: (C_out,) float32, or None.
        residual: (n_target, C_out) of the features' dtype, or None.
        relu: negative results become 0; NaN stays NaN.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    residual: Tensor | None = None
    relu: bool = False


class Backend(Protocol):
    """One way to compute a sparse convolution.

    out[t] = sum over the pairs (k, s, t) of x[s] @ weight[k].

    Features are of one floating dtype; weights, of any, are used in that dtype; sums of half
    precision products are kept in float32.
    """

    name: str

    def problem(self, device: torch.device, dtype: torch.dtype) -> str:
        """Why it cannot work with such features here; empty when it can."""
        ...

    def forward(
        self, x: Tensor, weight: Tensor, kernel_map: KernelMap, epilogue: Epilogue | None = None
    ) -> Tensor:
        """(n_target, C_out) of x (n_source, C_in) and weight (K, C_in, C_out)."""
        ...

    def input_gradient(self, grad: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        """(n_source, C_in) of grad (n_target, C_out)."""
        ...

    def weight_gradient(self, x: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
        """(K, C_in, C_out), float32 where features are half precision."""
        ...
