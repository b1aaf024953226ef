"""Corruption error and resilience rate as Robo3D defines them (Kong et al., ICCV 2023)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense_ros.errors import ConfigError

#: reference networks that travel with the package: name -> file of config/
PUBLISHED = {
    "nuscenes_c": "robustness/nuscenes_c.yaml",
    "semantickitti_c": "robustness/semantickitti_c.yaml",
}


def corruption_error(miou: Sequence[float], baseline: Sequence[float]) -> float:
    """CE: sum over severities of (1 - mIoU), divided by the same sum of the reference network."""
    return sum(1 - value for value in miou) / sum(1 - value for value in baseline)


def resilience_rate(miou: Sequence[float], clean: float) -> float:
    """RR: mean over severities of mIoU, divided by the same network's mIoU on clean data."""
    return sum(miou) / (len(miou) * clean)


@dataclass(frozen=True)
class Baseline:
    """A reference network: what corruption errors are measured against.

    Attributes:
        network, data: what was evaluated on what, in words.
        miou: corruption -> mIoU (0..1) at each severity.
    """

    network: str
    data: str
    miou: Mapping[str, tuple[float, ...]]

    def errors(self, miou: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """CE of each corruption of another network.

        Raises:
            ConfigError: the reference lacks one of the corruptions.
        """
        missing = sorted(set(miou) - set(self.miou))
        if missing:
            raise ConfigError(
                f"the baseline has no figures for {', '.join(missing)}",
                "evaluate the reference network on the same corruptions",
            )
        return {name: corruption_error(values, self.miou[name]) for name, values in miou.items()}

    def mce(self, miou: Mapping[str, Sequence[float]]) -> float:
        """mCE: mean of the corruption errors (1.0 is the reference itself)."""
        return statistics.fmean(self.errors(miou).values())


def mean_resilience(miou: Mapping[str, Sequence[float]], clean: float) -> float:
    """mRR: mean of the resilience rates."""
    return statistics.fmean(resilience_rate(values, clean) for values in miou.values())


def read_baseline(source: str | Path) -> Baseline:
    """A reference network from a file that `condense eval robustness --json` wrote, or from one of
    the published ones by name.

    Raises:
        ConfigError: no such file, or one without figures between 0 and 1 for three severities.
    """
    import yaml

    from condense_ros.resources import config_file

    name = str(source)
    path = config_file(PUBLISHED[name]) if name in PUBLISHED else Path(source)
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))  # reads JSON as well
        miou = {
            str(kind): tuple(float(value) for value in values)
            for kind, values in content["miou"].items()
        }
        baseline = Baseline(str(content["network"]), str(content["data"]), miou)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}",
            f"give a result file, or one of: {', '.join(PUBLISHED)}",
        ) from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no result of an evaluation under corruptions ({error!r})",
            "make one: condense eval robustness REFERENCE --data DATA --json FILE",
        ) from None
    for kind, values in miou.items():
        fits = len(values) == 3 and all(0 <= value <= 1 for value in values)
        if not fits or not math.fsum(1 - value for value in values):
            raise ConfigError(
                f"{path}: mIoU of {kind} is {list(values)}", "give three values from 0 to below 1"
            )
    return baseline
