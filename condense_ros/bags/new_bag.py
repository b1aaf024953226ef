"""`NewBag`: a bag made from others, complete under its name or not there at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType

from condense_ros.bags.config import MIB, RecordConfig
from condense_ros.bags.messages import BagMessage
from condense_ros.bags.reader import BagReader
from condense_ros.bags.writer import BagWriter
from condense_ros.errors import BagError, CondenseError, StorageFull
from condense_ros.files import sync_folder


class NewBag:
    """Collects messages beside `out` and gives them its name at the end of the `with` block.

    An error or Ctrl-C leaves nothing; what a killed run left is removed by the next.

    Args:
        out: folder of the new bag; with the suffix .mcap a single file.
        inputs: what is copied from; the new files are as large as the largest of theirs.

    Raises:
        BagError: `out` exists, or another command is making it.
        StorageFull: no room to begin.
    """

    def __init__(self, out: Path | str, inputs: list[BagReader]) -> None:
        self.out = Path(out)
        if self.out.exists():
            raise BagError(f"{self.out} exists already", "name a new folder or remove that one")
        self._partial = self.out.with_name(f".{self.out.name}.partial")
        _remove_rest(self._partial)
        sizes = [file.stat().st_size for reader in inputs for file in reader.files]
        alone = self.out.suffix == ".mcap"
        split_mib = 0.0 if alone or len(sizes) < 2 else max(1.0, max(sizes) / MIB)
        config = RecordConfig(split_mib=split_mib)
        name = self.out.stem if alone else self.out.name
        try:
            self._writer = BagWriter(self._partial, config, name=name)
        except CondenseError:
            shutil.rmtree(self._partial, ignore_errors=True)
            raise
        self.written = 0

    def topics_of(self, reader: BagReader) -> None:
        """Declares the topics of a bag, stored as they are there.

        Raises:
            BagError: declared before as another type.
        """
        for topic, found in reader.topics.items():
            self._writer.declare(topic, found.kind)

    def add(self, message: BagMessage) -> None:
        """Writes a message of a declared topic, waiting for the disk.

        Raises:
            StorageFull: no room.
            BagError: the disk failed.
        """
        self._writer.write(
            message.topic,
            message.type_name,
            message.raw,
            message.stamp_ns,
            message.log_ns,
            block=True,
        )
        self.written += 1
        if self._writer.problem is not None:
            raise self._writer.problem

    def __enter__(self) -> NewBag:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._writer.close()
            if error is None:
                self._check_whole()
                self._publish()
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _check_whole(self) -> None:
        """A disk that was full only for a moment has cost messages all the same."""
        dropped = sum(sum(count.dropped.values()) for count in self._writer.accounting().values())
        if dropped:
            raise StorageFull(
                f"{dropped} messages of {self.out} could not be written", "free space and try again"
            )

    def _publish(self) -> None:
        source = self._partial
        if self.out.suffix == ".mcap":
            source = source / f"{self.out.stem}_0.mcap"
        if self.out.exists():
            raise BagError(f"{self.out} has appeared meanwhile", "name a new folder")
        os.rename(source, self.out)
        sync_folder(self.out.absolute().parent)


def _remove_rest(partial: Path) -> None:
    """Removes what a killed command left, unless one is still at work on it.

    Raises:
        BagError: one is.
    """
    if not partial.exists():
        return
    handle = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise BagError(
            f"another command is writing {partial}", "wait for it, or name another folder"
        ) from error
    finally:
        os.close(handle)
    shutil.rmtree(partial)
