"""Parameters of the trainer."""

from __future__ import annotations

from dataclasses import dataclass

from condense_ros.config import parameter
from condense_ros.errors import ConfigError, TrainingError
from condense_training.distributed import world_size
from condense_training.recipe import Recipe


@dataclass(frozen=True)
class TrainerConfig:
    """How a recipe is run: seed, precision, accumulate, ema_decay and validation_fraction change
    what is learned, the others do not."""

    seed: int = parameter(0, "seed of everything random", low=0, high=2**31)
    device: str = parameter("cpu", "torch device")
    precision: str = parameter(
        "float32", "of networks: float32, or bfloat16 (autocast); losses and weights are float32"
    )
    accumulate: int = parameter(
        1, "micro-batches that a step's samples are divided into, to need less memory", low=1
    )
    ema_decay: float = parameter(
        0.0, "of an average of the weights, which is exported; 0: the weights", low=0, high=0.999999
    )
    save_every_steps: int = parameter(100, "steps between saved states", low=1)
    keep_every_steps: int = parameter(
        0, "steps of a stage between validations and kept checkpoints; 0: none", low=0
    )
    keep_checkpoints: int = parameter(
        5, "newest kept checkpoints that stay; the one to select stays besides", low=1
    )
    validation_fraction: float = parameter(
        0.0, "of each data set, its end, that is held out for validation", low=0.0, high=0.9
    )
    max_bad_steps: int = parameter(
        10, "steps in a row with a non-finite loss or gradient before training stops", low=1
    )
    max_quarantined_fraction: float = parameter(
        0.1, "share of the frames that may be unreadable", low=0.0, high=1.0
    )
    prefetch: bool = parameter(True, "make the next batch in a thread while one is learned from")
    threads: int = parameter(
        0, "CPU threads per operator; 0: OMP_NUM_THREADS, or else half of the cores", low=0
    )
    rank_timeout_s: float = parameter(
        600.0, "how long one process of torchrun waits for another", low=1.0
    )
    progress: bool = parameter(True, "show progress on the terminal")
    tensorboard: bool = parameter(False, "write curves for TensorBoard to OUT/tensorboard")


def check_config(recipe: Recipe, config: TrainerConfig) -> None:
    """Refuses what does not fit together, once the processes have met.

    Raises:
        ConfigError: an unknown precision.
        TrainingError: batches that cannot be divided.
    """
    if config.precision not in ("float32", "bfloat16"):
        raise ConfigError(
            f"TrainerConfig.precision is {config.precision!r}", "use float32 or bfloat16"
        )
    parts = world_size() * config.accumulate
    for stage in recipe.stages:
        if stage.batch_size % parts:
            raise TrainingError(
                f"the {stage.batch_size} samples of a step of stage {stage.name!r} cannot be "
                f"divided evenly over {world_size()} processes with {config.accumulate} "
                "micro-batches each",
                f"set the recipe's batch size to a multiple of {parts}: it counts the samples of "
                "all processes together",
            )
