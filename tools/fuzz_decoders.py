"""Fuzzes every decoder of foreign bytes, guided by coverage (atheris) and by properties.

python tools/fuzz_decoders.py --runs 1000000 --json F [--only NAME ...] [--crashes FOLDER]

Each decoder runs in a process of its own: libFuzzer mutates valid messages made by our encoders and
keeps what reaches new code, then hypothesis draws mutations of its own. An input fails if the
decoder raises anything but a typed error that names a fix, allocates more than it declares
(`decoder_targets.Target.limit`; what libraries allocate beside Python shows as growth of the
process, which may not exceed 1 GiB), or answers otherwise when other bytes lie around the input in
memory, that is, reads out of bounds. Failing inputs are kept under --crashes. Exit status 1 if any.

Needs `pip install -e .[fuzz]` (atheris; Linux on x86_64).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import tracemalloc
from datetime import date
from pathlib import Path
from typing import Any

INSTRUMENTED = [
    "condense_ros.wire",
    "condense_ros.geometry",
    "condense_ros.bags.pairs",
    "condense_ros.datasets.pcd",
    "condense_ros.datasets.ply",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
]
#: the allocations of one input in so many are traced; all count for the growth of the process
TRACE_EVERY = 4
#: no decoder may let its process grow by more, whatever libraries allocate beside Python
MAX_GROWTH_KIB = 1 << 20
#: one input in so many is decoded twice more, between other bytes
SURROUND_EVERY = 8
MAX_LENGTH = 4096


def fingerprint(value: Any) -> str:
    """A text that tells any two results of a decoder apart."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{np.ascontiguousarray(value).tobytes().hex()}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(fingerprint, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{fingerprint(v)}" for k, v in value.items()) + "}"
    if hasattr(value, "__dict__"):
        return type(value).__name__ + fingerprint(vars(value))
    return repr(value)


class Watch:
    """Runs one decoder on inputs and notes what goes wrong."""

    def __init__(self, name: str, crashes: Path, result: Path, runs: int) -> None:
        from decoder_targets import attempt, targets

        self._attempt, self.target = attempt, targets()[name]
        self.name, self.crashes, self.result, self.runs = name, crashes, result, runs
        self.inputs = self.accepted = self.largest = 0
        self.failures: dict[str, str] = {}
        self.grown = False
        self.start = time.perf_counter()
        self.settled = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def __call__(self, raw: bytes) -> None:
        """Decodes one input."""
        self.inputs += 1
        traced = self.inputs % TRACE_EVERY == 0
        if traced:
            tracemalloc.start()
        try:
            outcome = self._attempt(self.target, raw)
            self.accepted += outcome[0] == "ok"
            if traced:
                peak = tracemalloc.get_traced_memory()[1]
                self.largest = max(self.largest, peak)
                limit = self.target.limit(len(raw))
                assert peak <= limit, f"allocated {peak} bytes for {len(raw)}, limit {limit}"
            if self.inputs % SURROUND_EVERY == 0:
                self._surrounded(raw)
        except Exception as error:
            self._failed(raw, error)
        finally:
            if traced:
                tracemalloc.stop()
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.settled
        if growth > MAX_GROWTH_KIB and not self.grown:
            self.grown = True
            self._failed(raw, MemoryError(f"the process grew by {growth} KiB"))
        if self.inputs % 5000 == 0 or self.inputs >= self.runs:
            self.save()

    def _surrounded(self, raw: bytes) -> None:
        answers = []
        for filler in (b"\x00", b"\xff"):
            around = filler * 64
            inside = memoryview(around + raw + around)[64:-64]
            text, value = self._attempt(self.target, inside)
            answers.append(text + fingerprint(value))
        assert answers[0] == answers[1], "the answer depends on bytes outside of the input"

    def _failed(self, raw: bytes, error: Exception) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "large"
        where = f"{type(error).__name__} at {at}"
        if where not in self.failures:
            self.failures[where] = f"{error}"[:300]
            self.crashes.mkdir(parents=True, exist_ok=True)
            path = self.crashes / f"{self.name}_{len(self.failures)}.bin"
            path.write_bytes(raw)
            (path.with_suffix(".txt")).write_text("".join(traceback.format_exception(error)))

    def save(self) -> None:
        """Writes the account, for the parent process."""
        account = {
            "inputs": self.inputs,
            "accepted": self.accepted,
            "largest_allocation": self.largest,
            "growth_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.settled,
            "failures": self.failures,
            "seconds": time.perf_counter() - self.start,
        }
        self.result.write_text(json.dumps(account))


def guided(name: str, runs: int, crashes: Path, result: Path, corpus: Path) -> None:
    """Coverage-guided runs in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        import decoder_targets  # noqa: F401

    watch = Watch(name, crashes, result, runs)
    for number, seed in enumerate(watch.target.seeds):
        watch.target.decode(seed)
        (corpus / f"seed{number}").write_bytes(seed)
    _instrument_generated_code(atheris)
    arguments = [f"-runs={runs}", "-seed=1", f"-max_len={MAX_LENGTH}", "-timeout=60"]
    arguments += ["-rss_limit_mb=4096", "-print_final_stats=1", "-len_control=0"]
    crashes.mkdir(parents=True, exist_ok=True)
    arguments.append(f"-artifact_prefix={crashes}/{name}_")
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], watch)
    atheris.Fuzz()


def _instrument_generated_code(atheris: Any) -> None:
    """rosbags makes its deserialisers at run time, which no import hook sees."""
    from condense_ros.wire import cdr

    cache = cdr.typestore().cache
    for kind, entry in list(cache.items()):
        cache[kind] = dataclasses.replace(
            entry,
            deserialize_cdr_le=atheris.instrument_func(entry.deserialize_cdr_le),
            deserialize_cdr_be=atheris.instrument_func(entry.deserialize_cdr_be),
        )


def drawn(name: str, runs: int, crashes: Path, result: Path) -> None:
    """Mutations drawn by hypothesis: bits, lengths and whole parts, aimed at the headers."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    watch = Watch(name, crashes, result, runs)
    words = [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0", bytes(8)]

    @settings(max_examples=runs, deadline=None, database=None, suppress_health_check=HealthCheck)
    @given(st.data())
    def mutate(data: st.DataObject) -> None:
        raw = bytearray(data.draw(st.sampled_from(watch.target.seeds)))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, max(len(raw) - 1, 0)))
            kind = data.draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4]))
            if kind == 0 and raw:
                raw[at] ^= 1 << data.draw(st.integers(0, 7))
            elif kind == 1:
                at -= at % 4
                raw[at : at + 4] = data.draw(st.sampled_from(words))
            elif kind == 2:
                raw[at:at] = data.draw(st.binary(min_size=1, max_size=16))
            elif kind == 3:
                del raw[at : at + data.draw(st.integers(1, 16))]
            else:
                other = data.draw(st.sampled_from(watch.target.seeds))
                raw[at:] = other[data.draw(st.integers(0, len(other))) :]
        watch(bytes(raw))

    mutate()
    watch.save()


def child(mode: str, name: str, runs: int, crashes: Path, scratch: Path) -> dict[str, Any]:
    """Runs one decoder in a process of its own; its account, with a crash of the process in it."""
    result, corpus = scratch / f"{name}_{mode}.json", scratch / f"{name}_{mode}"
    corpus.mkdir()
    command = [sys.executable, __file__, "--child", mode, name, str(runs), str(crashes)]
    done = subprocess.run(
        [*command, str(result), str(corpus)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found: dict[str, Any] = {"inputs": 0, "accepted": 0, "largest_allocation": 0, "failures": {}}
    if result.is_file():
        found = json.loads(result.read_text())
    edges = re.findall(r"cov: (\d+)", done.stderr)
    found["edges"] = int(edges[-1]) if edges else None
    if done.returncode or not found["inputs"]:
        last = done.stderr.strip().splitlines()[-5:]
        found["failures"][f"process ended with {done.returncode}"] = "\n".join(last)
    return found


def table(decoders: dict[str, Any]) -> list[str]:
    """The account as a table in Markdown."""
    rows = [
        "| decoder | inputs, guided | inputs, drawn | decoded | seconds | edges | largest "
        "allocation | growth | crashes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, d in decoders.items():
        one, two = d["guided"], d["drawn"]
        rows.append(
            f"| {name} | {one['inputs']:,} | {two['inputs']:,} "
            f"| {one['accepted'] + two['accepted']:,} "
            f"| {one.get('seconds', 0) + two.get('seconds', 0):.0f} | {one['edges']} "
            f"| {max(one['largest_allocation'], two['largest_allocation']) / 1e6:.2f} MB "
            f"| {max(one.get('growth_kib', 0), two.get('growth_kib', 0)) * 1024 / 1e6:.0f} MB "
            f"| {len(one['failures']) + len(two['failures'])} |"
        )
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1_000_000, help="guided inputs of all decoders")
    parser.add_argument("--drawn", type=int, help="inputs of hypothesis; default: runs / 20")
    parser.add_argument("--json", type=Path, help="write the account here")
    parser.add_argument("--only", nargs="*", help="names of decoders")
    parser.add_argument("--crashes", type=Path, default=Path("fuzz_crashes"))
    options = parser.parse_args()
    from decoder_targets import targets

    names = options.only or list(targets())
    each = -(-options.runs // len(names))
    each_drawn = -(-(options.drawn or options.runs // 20) // len(names))
    decoders: dict[str, Any] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            decoders[name] = {
                mode: child(mode, name, runs, options.crashes.absolute(), Path(scratch))
                for mode, runs in (("guided", each), ("drawn", each_drawn))
            }
        print(table({name: decoders[name]})[2], flush=True)
        for mode in ("guided", "drawn"):
            for where, what in decoders[name][mode]["failures"].items():
                print(f"    {mode}: {where}: {what}", flush=True)
        if options.json:  # after each decoder: a run that is stopped leaves what it has
            options.json.write_text(json.dumps(account(decoders), indent=1) + "\n")
    total = account(decoders)
    print(f"{total['inputs']:,} inputs, {total['crashes']} crashes")
    sys.exit(1 if total["crashes"] else 0)


def account(decoders: dict[str, Any]) -> dict[str, Any]:
    """All decoders with their sums, the date and the machine."""
    parts = [d[mode] for d in decoders.values() for mode in ("guided", "drawn")]
    return {
        "date": date.today().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "inputs": sum(part["inputs"] for part in parts),
        "crashes": sum(len(part["failures"]) for part in parts),
        "decoders": decoders,
    }


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    if sys.argv[1:2] == ["--child"]:
        mode, name, runs, crashes, result, corpus = sys.argv[2:]
        if mode == "guided":
            guided(name, int(runs), Path(crashes), Path(result), Path(corpus))
        else:
            drawn(name, int(runs), Path(crashes), Path(result))
    else:
        main()
