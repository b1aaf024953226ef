"""The bag being written, if any, and what it must begin with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from condense_ros.bags import BagWriter, PairRecord, RecordConfig, RecordCount
from condense_ros.capture.messages import MAX_LATCHED, Message
from condense_ros.capture.notes import Notes
from condense_ros.errors import BagError, CondenseError


class Recording:
    """Passes messages to a `BagWriter` while there is one. Its user holds a lock around calls.

    Args:
        config: of the writer.
        notes: where problems are told.
    """

    def __init__(self, config: RecordConfig, notes: Notes) -> None:
        self._config = config
        self._notes = notes
        self._writer: BagWriter | None = None
        self._prologue: list[Message] = []
        self._counts: Mapping[str, RecordCount] = {}
        self._bytes = 0
        #: folder being written, or written last; empty when none was
        self.bag = ""

    @property
    def open(self) -> bool:
        """Whether a bag is being written."""
        return self._writer is not None

    @property
    def problem(self) -> CondenseError | None:
        """What keeps messages from being written at present (a full disk), or None."""
        return self._writer.problem if self._writer is not None else None

    def start(self, folder: Path | str, latched: Iterable[Message]) -> None:
        """Begins a bag with the calibration and static transforms received so far.

        Raises:
            BagError: already recording, or the folder cannot be used.
            StorageFull: no room to begin.
        """
        if self._writer is not None:
            raise BagError(f"already recording {self.bag}", "stop it first")
        self._writer = BagWriter(folder, self._config)
        self.bag = str(self._writer.folder)
        self._prologue = list(latched)

    def split(self) -> None:
        """Goes on in a new file of the same bag.

        Raises:
            BagError: nothing is being recorded.
        """
        if self._writer is None:
            raise BagError("nothing is being recorded", "call start first")
        self._writer.split()

    def detach(self) -> BagWriter | None:
        """Ends the recording; the writer is to be closed by the caller, outside its lock."""
        self._write_prologue(0)
        writer, self._writer = self._writer, None
        return writer

    def settle(self, writer: BagWriter) -> None:
        """Keeps the account of a closed writer."""
        self._counts, self._bytes = writer.accounting(), writer.bytes_written

    def write(self, message: Message) -> None:
        """Queues a message for the disk; without a bag it is not recorded."""
        if self._writer is None:
            return
        if message.latched and message.log_ns <= 0:
            # simulated time has not begun: logged at 0 it would make a bag of 50 years
            if len(self._prologue) < MAX_LATCHED:
                self._prologue.append(message)
            return
        log_ns = message.log_ns if message.log_ns > 0 else message.stamp_ns
        self._write_prologue(log_ns)
        self._put(message, log_ns)

    def pair(self, record: PairRecord, log_ns: int) -> None:
        """Queues a pair record."""
        if self._writer is not None:
            try:
                self._writer.pair(record, log_ns)
            except BagError as error:
                self._notes.add("recorder", str(error))

    def account(self) -> tuple[Mapping[str, RecordCount], int]:
        """Counts by topic and bytes written, of the present or the last bag."""
        if self._writer is not None:
            self.settle(self._writer)
        return self._counts, self._bytes

    def _write_prologue(self, log_ns: int) -> None:
        """What was known before the first message of the bag, logged at the time of that one.

        Logged when it was heard, the bag would begin with a pause as long as the wait before.
        """
        prologue, self._prologue = self._prologue, []
        for message in prologue:
            self._put(message, log_ns if log_ns > 0 else message.stamp_ns)

    def _put(self, message: Message, log_ns: int) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write(
                message.topic, message.type_name, message.raw, message.stamp_ns, log_ns
            )
        except BagError as error:  # the topic changed its type, or the writer gave up
            self._notes.add("recorder", str(error))
