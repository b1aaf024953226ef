"""Files with their SHA-256 beside them: atomic writing, verified reading."""

from __future__ import annotations

import hashlib
from pathlib import Path

from condense_ros.errors import CheckpointError
from condense_ros.files import write_atomically


def _hash_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def write_hashed(path: Path, data: bytes) -> None:
    """Writes PATH and PATH.sha256 (as `sha256sum` does); a crash leaves the old or the new file.

    Raises:
        StorageFull: no room on the device.
        CheckpointError: the folder cannot be written.
    """
    digest = hashlib.sha256(data).hexdigest()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # both hashes are valid while the weights are exchanged, so a crash at any moment leaves
        # a file that loads
        line, beside = f"{digest}  {path.name}\n", _hash_path(path)
        before = beside.read_bytes() if path.exists() and beside.exists() else b""
        write_atomically(beside, line.encode() + before)
        write_atomically(path, data)
        write_atomically(beside, line.encode())
    except OSError as error:
        raise CheckpointError(
            f"cannot write the checkpoint {path}: {error}", "check the folder's permissions"
        ) from error


def read_hashed(path: Path) -> bytes:
    """The bytes of a checkpoint file.

    Raises:
        CheckpointError: no such file, a pickle, no hash file, or bytes of another hash.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no checkpoint at {path}", "make one with `condense pretrain`, or correct the path"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"cannot read the checkpoint {path}: {error}", "give the path of a readable file"
        ) from error
    if data[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise CheckpointError(
            f"{path} is a pickle, which could run code when loaded",
            "convert the weights to safetensors where they come from",
        )
    beside = _hash_path(path)
    try:
        expected = [line.split()[0] for line in beside.read_text().splitlines() if line.strip()]
        if not expected:
            raise ValueError("empty")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} has no readable hash file {beside.name}",
            f"copy it along, or make it from a file you trust: sha256sum {path.name} > "
            f"{beside.name}",
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found not in expected:
        raise CheckpointError(
            f"{path} has SHA-256 {found[:12]}..., its hash file says {expected[0][:12]}...",
            "it is truncated or altered: copy both files again",
        )
    return data
