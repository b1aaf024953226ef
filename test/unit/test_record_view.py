"""What `condense record` shows, from reports given by hand."""

from __future__ import annotations

import io
from types import SimpleNamespace

from rich.console import Console

from condense_ros.cli.record_view import RecordView, troubles


def status(received, matched=0, drops=None, written=0, recording=True):
    drops = drops or {}
    topic = SimpleNamespace(
        topic="/points",
        context=False,
        received=received,
        matched=matched,
        waiting=1,
        drop_reasons=list(drops),
        dropped=list(drops.values()),
    )
    context = SimpleNamespace(
        topic="/tf", context=True, received=7, matched=7, waiting=0, drop_reasons=[], dropped=[]
    )
    return SimpleNamespace(
        topics=[topic, context],
        pairs=matched,
        bytes_written=written,
        free_disk_bytes=12_300_000_000,
        recording=recording,
    )


def text(view, seconds):
    out = Console(file=io.StringIO(), width=200)
    out.print(view.table(seconds))
    return out.file.getvalue()


def test_rates_drops_offsets_and_disk():
    view = RecordView()
    assert view.line(3.2) == "3 s: waiting for capture_node"
    view.update(status(100), {}, 10.0)
    assert view.rate_hz("/points") is None
    shown = status(120, 115, {"no_partner": 3, "queue_full": 0, "malformed": 1}, 40_000_000)
    view.update(shown, {"/points offset_ms": "-12.345"}, 12.0)
    assert view.rate_hz("/points") == 10.0
    row = next(line for line in text(view, 12).splitlines() if "/points" in line)
    for word in (" 10.0 ", " 120 ", " 115 ", " -12.3 ms ", "3 no_partner, 1 malformed"):
        assert word in row, row
    assert "queue_full" not in row
    title = "12 s, 115 pairs, 40.0 MB written (20.0 MB/s), 12.3 GB free"
    assert title in text(view, 12)
    assert view.line(12) == (
        f"{title}; /points 10.0 Hz 115 matched, dropped 3 no_partner, 1 malformed"
    )


def test_rates_are_of_late():
    """A sensor that stops shows 0 Hz within seconds, not the mean since the start."""
    view = RecordView()
    for second in range(60):
        view.update(status(10 * min(second, 50)), {}, float(second))
    assert view.rate_hz("/points") == 0.0


def test_the_same_report_twice_changes_no_rate():
    view = RecordView()
    first, second = status(0), status(10)
    view.update(first, {}, 0.0)
    for now in (1.0, 1.5, 2.0):
        view.update(second, {}, now)
    assert view.rate_hz("/points") == 10.0


def test_not_recording_is_said():
    view = RecordView()
    view.update(status(1, recording=False), {}, 0.0)
    assert "not recording yet" in view.line(1)
    assert "free" not in view.line(1)


def test_warnings_of_the_node_are_shown():
    log = (
        "[INFO] [1.0] [capture_node]: fine\n"
        "[WARN] [2.0] [capture_node]: first\n"
        "[ERROR] [3.0] [capture_node]: second: [with] brackets\n"
        "[WARN] [4.0] [other]: not ours\n"
        "[WARN] [5.0] [capture_node]: third\n"
    )
    assert [item.plain for item in troubles(log, "capture_node")] == [
        "second: [with] brackets",
        "third",
    ]
    assert [item.plain for item in troubles(log, "capture_node", since_s=4.5)] == ["third"]
