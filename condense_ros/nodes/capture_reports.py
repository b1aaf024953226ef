"""What capture_node says of itself: diagnostics, and the status that `condense record` shows."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense_ros import wire
from condense_ros.capture import CaptureReport
from condense_ros.errors import CondenseError
from condense_ros.wire import cdr
from condense_ros.wire.header import header_to_message
from condense_ros.wire.status import ERROR, OK, WARN

PAIR_STATUS = "condense_msgs/msg/PairStatus"


def matching_status(report: CaptureReport) -> wire.Diagnostic:
    """The account of every topic; a warning if there is any."""
    counts: dict[str, object] = {
        "completed": report.completed,
        "pairs": report.pairs,
        "untriggered": report.untriggered,
        "skew_ms": round(report.skew_ms, 3),
        "calibration_ids": len(report.calibration_ids),
        "callback_errors": report.callback_errors,
    }
    for topic, count in report.topics.items():
        counts[f"{topic} received"] = count.received
        counts[f"{topic} matched"] = count.matched
        counts[f"{topic} waiting"] = count.waiting
        counts |= {f"{topic} dropped {reason}": n for reason, n in count.dropped.items()}
        counts[f"{topic} queue_size"] = report.queue_limits[topic]
        offset_s = report.offsets_s[topic]
        if offset_s is not None:
            counts[f"{topic} offset_ms"] = round(1e3 * offset_s, 3)
    for topic, context in report.context.items():
        counts[f"{topic} received"] = context.received
        counts[f"{topic} kept"] = context.kept
        counts |= {f"{topic} dropped {reason}": n for reason, n in context.dropped.items()}
    return wire.Diagnostic(
        "capture_node: matching",
        WARN if report.warnings else OK,
        report.warnings[0] if report.warnings else f"{report.completed} pairs",
        counts,
    )


def recorder_status(report: CaptureReport, failed: CondenseError | None) -> wire.Diagnostic:
    """The account of the bag and of the ring buffer; an error while nothing can be written."""
    counts: dict[str, object] = {
        "bag": report.bag,
        "bytes": report.bytes_written,
        "ring_messages": report.ring.messages,
        "ring_mib": round(report.ring.bytes / 1024**2, 1),
        "ring_s": round(report.ring.seconds, 1),
    }
    for topic, record in report.recorder.items():
        counts[f"{topic} accepted"] = record.accepted
        counts[f"{topic} written"] = record.written
        counts[f"{topic} queued"] = record.queued
        counts[f"{topic} acknowledged"] = record.acknowledged
        counts |= {f"{topic} dropped {reason}": n for reason, n in record.dropped.items()}
    state = "recording" if report.recording else "not recording"
    if failed is not None:
        return wire.Diagnostic("capture_node: recorder", ERROR, str(failed), counts)
    if report.ring.full:
        held = f"{report.ring.seconds:.1f} s"
        state += f"; the ring buffer holds {held} only: raise ring.memory_mib"
        return wire.Diagnostic("capture_node: recorder", WARN, state, counts)
    return wire.Diagnostic("capture_node: recorder", OK, state, counts)


def pair_status(header: wire.Header, report: CaptureReport) -> bytes:
    """The report as a condense_msgs/PairStatus."""
    counts = [
        cdr.message(
            "condense_msgs/msg/TopicCount",
            topic=topic,
            received=count.received,
            matched=count.matched,
            waiting=count.waiting,
            drop_reasons=list(count.dropped),
            dropped=_uint64(count.dropped.values()),
        )
        for topic, count in report.topics.items()
    ]
    counts += [
        cdr.message(
            "condense_msgs/msg/TopicCount",
            topic=topic,
            context=True,
            received=context.received,
            matched=context.kept,
            drop_reasons=list(context.dropped),
            dropped=_uint64(context.dropped.values()),
        )
        for topic, context in report.context.items()
    ]
    free = shutil.disk_usage(report.bag).free if report.bag and Path(report.bag).is_dir() else 0
    return cdr.serialize(
        PAIR_STATUS,
        cdr.message(
            PAIR_STATUS,
            header=header_to_message(header),
            recording=report.recording,
            topics=counts,
            pairs=report.pairs,
            bag_path=report.bag if report.recording else "",
            written_messages=sum(record.written for record in report.recorder.values()),
            queued_messages=sum(record.queued for record in report.recorder.values()),
            bytes_written=report.bytes_written,
            free_disk_bytes=free,
        ),
    )


def _uint64(counts: Iterable[int]) -> npt.NDArray[np.uint64]:
    return np.array(list(counts), np.uint64)
