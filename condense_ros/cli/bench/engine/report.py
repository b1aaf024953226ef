"""The figures as tables for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_PARTS = ("gather_ms", "gemm_ms", "scatter_ms", "epilogue_ms")


def show(result: dict[str, Any], layers: bool = False, console: Console | None = None) -> None:
    """Prints the machine, one row per backend and dtype, the peers, and what was left out.

    Args:
        layers: also a table of layers for each row.
    """
    # a file or a pipe has no width: columns must not be cut there
    console = console or Console(width=None if sys.stdout.isatty() else 132)
    for line in head(result):
        console.print(line, highlight=False)
    console.print(_rows(result["rows"]))
    if result["peers"]:
        console.print(_peers(result["peers"]))
    for line in notes(result):
        console.print(line, highlight=False)
    if layers:
        for row in result["rows"]:
            console.print(_layers(row))


def head(result: dict[str, Any]) -> list[str]:
    """What was measured, and what the machine does by itself."""
    machine = result["machine"]
    rates = [
        f"{dtype} {rate['best']:.0f} (2048x1024x1024: {rate['large']:.0f}, slowest layer shape: "
        f"{min(rate['shaped'].values()):.0f})"
        for dtype, rate in machine["gemm_gflops"].items()
    ]
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    return [
        f"{result['network']} on {result['cloud']} at {result['voxel_m']:g} m: "
        f"{result['voxels']} voxels, {result['rows'][0]['gmac'] if result['rows'] else 0:.2f} GMAC",
        f"{machine['processor']}{gpu}, {result['threads']} of {machine['cores']} threads, "
        f"torch {machine['torch']}, load {machine['load_average']:.1f}",
        f"dense products, GFLOP/s: {'; '.join(rates)}",
        f"memory copies: {machine['copy_mb_s'] / 1e3:.1f} GB/s",
    ]


def notes(result: dict[str, Any]) -> list[str]:
    """What was left out and why, once per reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for item in result["skipped"]:
        reasons.setdefault((item["backend"], item["reason"]), []).append(item["dtype"])
    whole = {row["backend"]: row["parts_note"] for row in result["rows"] if row["parts_note"]}
    lines = [f"{backend}: {reason}" for backend, reason in whole.items()]
    return lines + [
        f"not measured: {backend} {', '.join(dtypes)}: {reason}"
        for (backend, reason), dtypes in reasons.items()
    ]


def number(value: float | None, digits: int = 1) -> str:
    """A figure, or a dash for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def _table(title: str, names: Sequence[str], figures: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in figures:
        table.add_column(name, justify="right")
    return table


def _rows(rows: Sequence[dict[str, Any]]) -> Table:
    trained = any(row["step_ms"] is not None for row in rows)
    figures = ["maps", "forward", "both", *(["training step"] if trained else [])]
    figures += ["GFLOP/s", "floor", "forward / floor", "peak MB", "error"]
    table = _table("milliseconds, medians", ("backend", "dtype"), figures)
    for row in rows:
        times = [row["map_ms"], row["forward_ms"], row["total_ms"]]
        times += [row["step_ms"]] if trained else []
        table.add_row(
            row["backend"],
            row["dtype"],
            *map(number, times),
            number(row["gflops"]),
            number(row["floor_ms"]),
            number(row["ratio_to_floor"], 2),
            number(row["peak_mb"]),
            f"{row['max_rel_error']:.1e}",
        )
    return table


def _peers(rows: Sequence[dict[str, Any]]) -> Table:
    figures = ("maps and forward", "ours in turns", "theirs / ours", "error", "difference to ours")
    table = _table("peers, milliseconds", ("peer", "dtype", "against"), figures)
    for row in rows:
        paired = row["paired"]
        table.add_row(
            row["backend"],
            row["dtype"],
            paired["backend"],
            number(row["total_ms"]),
            number(paired["total_ms"]),
            number(paired["ratio"], 2),
            f"{row['max_rel_error']:.1e}",
            f"{row['difference_to_ours']:.1e}",
        )
    return table


def _layers(row: dict[str, Any]) -> Table:
    split = row["gather_ms"] is not None
    title = f"{row['backend']} {row['dtype']}, milliseconds per layer"
    names = ("layer", "kind", "channels")
    parts = ("gather", "GEMM", "scatter", "epilogue") if split else ()
    figures = ("rows", "pairs", "GMAC", "map", *parts, "product", "GFLOP/s", "floor", "dense")
    table = _table(title, names, figures)
    for layer in (*row["layers"], _total(row)):
        table.add_row(
            layer["name"],
            layer["kind"],
            layer["channels"] if "channels" in layer else _channels(layer),
            number(layer["rows"], 0),
            number(layer["pairs"], 0),
            number(layer["gmac"], 3),
            number(layer["map_ms"], 2),
            *(number(layer[name], 2) for name in (_PARTS if split else ())),
            number(layer["ms"], 2),
            number(layer["gflops"]),
            number(layer["floor_ms"], 2),
            number(layer["dense_ms"], 2),
        )
    return table


def _channels(layer: dict[str, Any]) -> str:
    return f"{layer['channels_in']} > {layer['channels_out']}"


def _total(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "name": "all",
        "kind": "",
        "channels": "",
        "rows": None,
        "pairs": sum(layer["pairs"] for layer in row["layers"]),
        "ms": row["product_ms"],
        "gflops": 2 * row["gmac"] / row["product_ms"] * 1e3,
    }
