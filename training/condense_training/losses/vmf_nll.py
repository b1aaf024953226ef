"""Features drawn to the distribution of their class (OLIVINE, eq. 11)."""

from __future__ import annotations

import torch
from torch import Tensor

from condense_training.losses.inputs import check_labels, full_precision, reduce_rows
from condense_training.losses.vmf_normaliser import log_vmf_normaliser
from condense_training.losses.vmf_statistics import ClassDistributions


@full_precision
def vmf_nll(
    features: Tensor,
    labels: Tensor,
    classes: ClassDistributions,
    *,
    reduction: str = "class",
    learn_distributions: bool = False,
) -> Tensor:
    """Negative log-likelihood of unit features under the von Mises-Fisher distribution of their
    class: the divergence of a Dirac at the feature from it.

    `loss_i = -log K_C(kappa_y) - kappa_y mu_y.g_i`. The gradient of a feature is
    `-kappa_y mu_y` times its weight; the normaliser only moves the value, unless distributions
    learn.

    Args:
        features: (M, C) unit rows; M may be 0.
        labels: (M,) int64; rows without a known class do not count.
        classes: of K classes.
        reduction: "class": the mean over present classes of the mean within each (released code);
            "point": the mean over points (paper).
        learn_distributions: let gradients flow to directions and concentrations.

    Returns:
        Scalar; zero where no row counts.

    Raises:
        TrainingError: shapes that do not fit, or an unknown reduction.
    """
    check_labels("class likelihood", labels, len(features))
    rows, labels = _counted(features, labels, classes)
    if not len(rows):
        return features.sum() * 0.0
    direction, kappa = classes.direction.to(rows.dtype), classes.kappa.to(rows.dtype)
    if not learn_distributions:
        direction, kappa = direction.detach(), kappa.detach()
    constant = -log_vmf_normaliser(kappa, features.shape[1]).to(rows.dtype)
    # through all K classes: one small product, and no (M, C) copy of directions
    pull = (rows @ (kappa[:, None] * direction).T).gather(1, labels[:, None])[:, 0]
    return reduce_rows(constant[labels] - pull, labels, len(kappa), reduction)


@full_precision
def prototype_distance(
    features: Tensor, labels: Tensor, classes: ClassDistributions, *, reduction: str = "class"
) -> Tensor:
    """The same with a Dirac in place of each distribution: `loss_i = 1 - mu_y.g_i`, half the
    squared distance of both points of the sphere. All classes pull alike, however spread they are
    (the deterministic class model of OLIVINE's table 6c; the paper gives no equation for it).

    Arguments, result and errors as `vmf_nll`.
    """
    check_labels("class prototypes", labels, len(features))
    rows, labels = _counted(features, labels, classes)
    if not len(rows):
        return features.sum() * 0.0
    direction = classes.direction.detach().to(rows.dtype)
    cosine = (rows @ direction.T).gather(1, labels[:, None])[:, 0]
    return reduce_rows(1 - cosine, labels, len(direction), reduction)


def _counted(
    features: Tensor, labels: Tensor, classes: ClassDistributions
) -> tuple[Tensor, Tensor]:
    """Rows of a known class, in float32 unless float64, and their labels."""
    inside = (labels >= 0) & (labels < len(classes.kappa))
    counted = inside & classes.known[torch.where(inside, labels, 0)]
    rows = features[counted]
    return rows if rows.dtype == torch.float64 else rows.float(), labels[counted]
