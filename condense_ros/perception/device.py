"""Which device a network runs on, and why it is not the one asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from condense_ros.errors import ConfigError
from condense_ros.sparse import native_library

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """A device in use.

    Attributes:
        torch_device: where tensors go.
        fallback: why it is slower than what was asked for; empty when it is not.
    """

    torch_device: torch.device
    fallback: str = ""


def choose_device(wanted: str) -> Device:
    """The device for "auto", "cpu", "cuda" or "cuda:N".

    CUDA that is asked for and missing gives the CPU, with a log line and `fallback` set.

    Raises:
        ConfigError: another word.
    """
    if wanted == "auto":
        return Device(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device {wanted!r}", "use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {wanted!r}", "use auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            return fall_back(f"{wanted} was asked for, this machine has {count} CUDA devices")
    return Device(device)


def fall_back(reason: str) -> Device:
    """The CPU, with a log line."""
    log.warning("running on the CPU: %s", reason)
    return Device(torch.device("cpu"), reason)


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether a network runs in bfloat16 for "float32", "bfloat16" or "auto".

    Raises:
        ConfigError: another word.
    """
    if precision not in ("float32", "bfloat16", "auto"):
        raise ConfigError(f"precision {precision!r}", "use float32, bfloat16 or auto")
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    native = native_library.library()
    return native is not None and native.instruction_set in ("avx512bf16", "amx")
