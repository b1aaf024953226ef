"""`recover`: everything that can still be read, as a bag that every reader opens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from condense_ros.bags.new_bag import NewBag
from condense_ros.bags.reader import BagReader
from condense_ros.errors import BagError

#: called with (messages done, messages in all)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Recovery:
    """What came of it.

    Attributes:
        messages: recovered.
        unverified: of them, those of a chunk that was cut off, so that no checksum covers them.
        damaged: stretches and chunks that are lost.
        cut: files that end within a record, as after a kill in the middle of a write.
        unfinished: files without index and footer.
    """

    messages: int
    unverified: int
    damaged: int
    cut: int
    unfinished: int

    @property
    def complete(self) -> bool:
        """Whether nothing was lost; a missing index or footer is no loss."""
        return not self.damaged and not self.cut


def recover(path: Path | str, out: Path | str, progress: Progress | None = None) -> Recovery:
    """Copies every readable message, in order, into a finished bag with index and metadata.yaml.

    Args:
        path: bag folder or .mcap file, killed or damaged.
        out: new folder, or new .mcap file.

    Raises:
        BagError: nothing there that is a bag, nothing in it that can be read, or `out` exists.
        StorageFull: no room; nothing is left at `out`.
    """
    reader = BagReader(path)
    total = sum(topic.count for topic in reader.topics.values())
    unverified = 0
    with NewBag(out, [reader]) as bag:
        bag.topics_of(reader)
        for message in reader.messages():
            bag.add(message)
            unverified += not message.verified
            if progress is not None:
                progress(bag.written, total)
        if not bag.written:
            raise BagError(f"no message of {path} can be recovered", "restore it from a backup")
    ends = reader.unfinished()
    return Recovery(bag.written, unverified, reader.damaged, sum(ends.values()), len(ends))
