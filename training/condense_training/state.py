"""Training state on disk: everything that a resumed run needs to go on bit-equally."""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import torch

from condense_ros.errors import TrainingError
from condense_ros.files import write_atomically

log = logging.getLogger(__name__)

_FOLDER = "state"
_KEEP = 2


def _files(out: Path) -> list[Path]:
    return sorted((out / _FOLDER).glob("*.state"))


def save_state(out: Path, total_step: int, state: dict[str, Any]) -> Path:
    """Writes `out/state/<total_step>.state`, then removes all but the newest two.

    Raises:
        StorageFull: no room; the states written before are intact.
    """
    (out / _FOLDER).mkdir(parents=True, exist_ok=True)
    payload = io.BytesIO()
    torch.save(state, payload)
    content = payload.getvalue()
    path = out / _FOLDER / f"{total_step:09d}.state"
    write_atomically(path, hashlib.sha256(content).digest() + content)
    for old in _files(out)[:-_KEEP]:
        old.unlink()
    return path


def load_state(out: Path) -> dict[str, Any] | None:
    """The newest intact state under `out`, or None where there is none yet.

    A damaged file is passed over with a warning and the one before it is used. Loading executes no
    code.

    Raises:
        TrainingError: there are state files, and all are damaged.
    """
    files = _files(out)
    for path in reversed(files):
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            log.warning("%s is damaged; trying the state before it", path)
            continue
        state: dict[str, Any] = torch.load(
            io.BytesIO(content[32:]), map_location="cpu", weights_only=True
        )
        return state
    if files:
        raise TrainingError(
            f"every training state in {out / _FOLDER} is damaged",
            "start again with --restart (resume=False), or in another folder",
        )
    return None


#: settings of runs that were begun before there were such settings
_BEFORE = {
    "precision": "float32",
    "accumulate": 1,
    "ema_decay": 0.0,
    "validation_fraction": 0.0,
    "world_size": 1,
    "negatives": "per_rank",
}


def check_same_run(state: dict[str, Any], fingerprint: dict[str, Any], out: Path) -> None:
    """Refuses to go on with a run that was begun with other settings (TrainingError).

    Args:
        state: as loaded; its "fingerprint" is every value that the run depends on.
        fingerprint: of the run that is to go on.
    """
    names = {*state["fingerprint"], *fingerprint}
    then, now = (
        {name: values.get(name, _BEFORE.get(name)) for name in names}
        for values in (state["fingerprint"], fingerprint)
    )
    changed = sorted(name for name in names if then[name] != now[name])
    if changed:
        what = "; ".join(f"{name}: {then[name]!r} -> {now[name]!r}" for name in changed)
        raise TrainingError(
            f"{out} holds a run with other settings ({what})",
            "give another output folder, the same settings, or start again with --restart "
            "(resume=False)",
        )


def clear_states(out: Path) -> None:
    """Removes the states of an earlier run."""
    for path in _files(out):
        path.unlink()
