"""Typed errors. Each message says what was wrong with which input, and how to fix it."""

from __future__ import annotations


class CondenseError(Exception):
    """Base of every error this project raises on purpose.

    Args:
        problem: what is wrong, naming the input (a path, a topic, a parameter).
        fix: what the user can do about it, as an imperative sentence.
    """

    #: exit status of the command line when this error ends a command
    exit_code = 1

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}. Fix: {self.fix}" if self.fix else self.problem


class GeometryError(CondenseError):
    """A transform, quaternion or camera that cannot be used (not rigid, NaN, K = 0, ...)."""


class FrameError(CondenseError):
    """A sample whose arrays do not fit together (shapes, dtypes, lengths)."""


class ConfigError(CondenseError):
    """A parameter outside its range or of the wrong type."""

    exit_code = 2


class WireError(CondenseError):
    """Message bytes that cannot be decoded, or arrays that cannot be encoded."""


class DatasetError(CondenseError):
    """A folder or file that is no data set this project reads, or is damaged."""


class BagError(CondenseError):
    """A bag that cannot be opened, read or written."""


class BagDamaged(BagError):
    """A bag that opened, but of which a part could not be read."""

    exit_code = 3


class StorageFull(CondenseError):
    """No room left on the device; what was written before is intact."""


class CalibrationMissing(CondenseError):
    """No extrinsics or intrinsics for a sensor. They are never guessed."""


class SimulationError(CondenseError):
    """A world or rig that cannot be simulated as asked."""


class SparseError(CondenseError):
    """Sparse coordinates or features that break the engine's contract."""


class CheckpointError(CondenseError):
    """Weights that are missing, damaged, or of another architecture."""


class TrainingError(CondenseError):
    """Training data or state with which a recipe cannot go on."""


class LabelError(CondenseError):
    """Labels of images that cannot be made, stored or read, or mean something else."""


class LabelsIncomplete(LabelError):
    """Labelling has ended, but some images could not be labelled."""

    exit_code = 3


class PerceptionError(CondenseError):
    """A network output that cannot be used (NaN)."""


class MapError(CondenseError):
    """A place map that cannot be read, written or queried."""


class EnvironmentProblem(CondenseError):
    """Something of this machine is missing (ROS, a compiler, interfaces)."""
