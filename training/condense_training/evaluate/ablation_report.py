"""The component table as numbers, Markdown and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from condense_ros.errors import TrainingError
from condense_ros.files import write_atomically, write_json
from condense_training.evaluate.ablation import RANDOM, ROWS

SUMMARY, TABLE, PICTURE = "summary.json", "table.md", "ablation.png"
Result = Mapping[str, Any]


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _by_row(results: Sequence[Result]) -> dict[str, dict[int, Result]]:
    """Row name -> seed -> cell, in the order of the table."""
    order = {row: i for i, row in enumerate(ROWS)}
    rows: dict[str, dict[int, Result]] = {}
    for cell in sorted(results, key=lambda c: (order[c["row"]], c["labels"] or "", c["seed"])):
        rows.setdefault(cell["name"], {})[cell["seed"]] = cell
    return rows


def _few(cell: Result) -> float:
    """Mean over the draws of labelled frames."""
    return fmean(cell["few_miou"])


_JUDGES = {"lp": lambda cell: float(cell["lp_miou"]), "few": _few}


def difference(
    better: Mapping[int, Result], worse: Mapping[int, Result], judge: str
) -> dict[str, Any] | None:
    """Paired by pretraining seed: values, mean, standard error of the mean, and whether every one
    is positive; None where no seed has both."""
    seeds = sorted(set(better) & set(worse))
    if not seeds:
        return None
    value = _JUDGES[judge]
    values = [value(better[seed]) - value(worse[seed]) for seed in seeds]
    error = _spread(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {
        "seeds": seeds,
        "values": values,
        "mean": fmean(values),
        "standard_error": None if math.isnan(error) else error,
        "all_positive": min(values) > 0,
        "over_two_errors": None if math.isnan(error) else fmean(values) > 2 * error,
    }


def _pairs(rows: Sequence[str]) -> list[tuple[str, str]]:
    """Which rows are compared: each with the one it adds something to."""
    full = [row for row in rows if row.split("@")[0] == "full"]
    steps = [("ppkt", RANDOM), *((row, "ppkt") for row in full), *((row, RANDOM) for row in full)]
    for row in rows:
        name, at, labels = row.partition("@")
        if name in ("class_contrast", "vmf", "class_contrast+vmf", "class_contrast+dcas"):
            steps.append((row, "ppkt"))
        if name == "regression":
            steps.append((row, RANDOM))
        if name == "regression+dcas":
            steps.append((row, "regression"))
        if name == "full":
            steps += [(row, f"{part}{at}{labels}") for part in ("class_contrast+vmf",)]
            steps += [(row, f"{part}{at}{labels}") for part in ("class_contrast+dcas",)]
    return [(a, b) for a, b in steps if a in rows and b in rows]


def summarise(results: Sequence[Result]) -> dict[str, Any]:
    """`rows` with means and standard deviations over pretraining seeds, and paired `differences`.

    Raises:
        TrainingError: no cell.
    """
    if not results:
        raise TrainingError("no cell to summarise", "run `condense eval ablation` first")
    by_row = _by_row(results)
    rows = []
    for name, cells in by_row.items():
        lp = [_JUDGES["lp"](cell) for cell in cells.values()]
        few = [_few(cell) for cell in cells.values()]
        active = [c["pretraining"].get("kl_active") for c in cells.values()]
        known = [value for value in active if value is not None]
        rows.append(
            {
                "name": name,
                "seeds": list(cells),
                "lp_miou_mean": fmean(lp),
                "lp_miou_std": _spread(lp),
                "few_miou_mean": fmean(few),
                "few_miou_std": _spread(few),
                "steps": sorted({cell["pretraining"]["steps"] for cell in cells.values()}),
                "kl_active": fmean(known) if known else None,
                "lp_iou": _mean_iou(cells, "lp_iou"),
                "few_iou": _mean_iou(cells, "few_iou"),
            }
        )
    differences = {
        judge: [
            {"better": a, "worse": b, **found}
            for a, b in _pairs(list(by_row))
            if (found := difference(by_row[a], by_row[b], judge))
        ]
        for judge in _JUDGES
    }
    return {"rows": rows, "differences": differences, "cells": len(results)}


def _mean_iou(cells: Mapping[int, Result], key: str) -> dict[str, float]:
    names = list(next(iter(cells.values()))[key])
    return {name: fmean(cell[key][name] for cell in cells.values()) for name in names}


def markdown(summary: Mapping[str, Any]) -> str:
    """Both tables: rows, and paired differences."""
    lines = [
        "| row | seeds | steps | pull active | linear probe mIoU % | few labels mIoU % |",
        "|---|---|---|---|---|---|",
    ]
    for row in summary["rows"]:
        active = "" if row["kl_active"] is None else f"{100 * row['kl_active']:.0f} %"
        steps = ", ".join(str(count) for count in row["steps"])
        lines.append(
            f"| {row['name']} | {len(row['seeds'])} | {steps} | {active} "
            f"| {100 * row['lp_miou_mean']:.2f} ± {100 * row['lp_miou_std']:.2f} "
            f"| {100 * row['few_miou_mean']:.2f} ± {100 * row['few_miou_std']:.2f} |"
        )
    lines += [
        "",
        "Differences, paired by pretraining seed, mIoU points:",
        "",
        "| judge | row | minus | of each seed | mean | standard error | positive everywhere |",
        "|---|---|---|---|---|---|---|",
    ]
    for judge, found in summary["differences"].items():
        for one in found:
            values = ", ".join(f"{100 * value:+.2f}" for value in one["values"])
            error = one["standard_error"]
            shown = "" if error is None else f"{100 * error:.2f}"
            lines.append(
                f"| {judge} | {one['better']} | {one['worse']} | {values} "
                f"| {100 * one['mean']:+.2f} | {shown} | {'yes' if one['all_positive'] else 'no'} |"
            )
    return "\n".join(lines) + "\n"


def draw(summary: Mapping[str, Any], path: Path) -> None:
    """A bar for each row and judge, with the standard deviation over seeds."""
    from matplotlib.figure import Figure

    rows = summary["rows"]
    figure = Figure(figsize=(9, 0.5 * len(rows) + 1.6), layout="constrained")
    judges = (("lp", "linear probe"), ("few", "few labels"))
    for axis, (judge, title) in zip(figure.subplots(1, 2, sharey=True), judges, strict=True):
        means = [100 * row[f"{judge}_miou_mean"] for row in rows]
        errors = [100 * row[f"{judge}_miou_std"] for row in rows]
        colours = ["#9e9e9e" if row["name"] == RANDOM else "#3b6ea5" for row in rows]
        axis.barh(range(len(rows)), means, xerr=errors, color=colours, ecolor="#303030", capsize=2)
        for place, (mean, error) in enumerate(zip(means, errors, strict=True)):
            axis.text(mean + error, place, f" {mean:.1f}", va="center", fontsize=8)
        axis.set_xlim(0, 1.18 * max(m + e for m, e in zip(means, errors, strict=True)))
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("mIoU %")
        axis.spines[["top", "right"]].set_visible(False)
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    axis.invert_yaxis()
    figure.savefig(path, dpi=130)


def write(results: Sequence[Result], out: Path) -> dict[str, Any]:
    """`summary.json`, `table.md` and `ablation.png` in `out`; returns the summary.

    Raises:
        TrainingError: no cell.
    """
    summary = summarise(results)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / SUMMARY, summary)
    write_atomically(out / TABLE, markdown(summary).encode())
    draw(summary, out / PICTURE)
    return summary
