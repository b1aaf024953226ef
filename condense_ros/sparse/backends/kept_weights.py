"""Weights in the form a backend wants, made once for each state of a parameter."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class KeptWeights:
    """Converted weights by parameter; they go when the parameter goes or changes."""

    def __init__(self) -> None:
        self._kept: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def get(self, weight: Tensor, form: object, make: Callable[[Tensor], Tensor]) -> Tensor:
        """make(weight), remembered under the name of the form."""
        # tensors made in inference mode do not count their changes: nothing could be kept
        if weight.is_inference():
            return make(weight.detach())
        state = (weight._version, weight.data_ptr(), weight.device)
        known: dict[object, Tensor]
        then, known = self._kept.get(weight, (None, {}))
        if then != state:
            known = {}
            self._kept[weight] = (state, known)
        if form not in known:
            known[form] = make(weight.detach())
        return known[form]
