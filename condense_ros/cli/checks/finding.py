"""`Finding`: one line of `condense doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what was looked at, two or three words.
        status: "ok", "note" (worth knowing), "warning" (works, but badly), "error" (does not work).
        found: what was found there.
        fix: what to do about it; empty when there is nothing to do.
    """

    subject: str
    status: Status
    found: str
    fix: str = ""

    def __post_init__(self) -> None:
        if self.status in ("warning", "error") and not self.fix:
            raise ValueError(f"finding {self.subject!r} is a {self.status} without a fix")
