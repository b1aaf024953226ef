"""Tables of figures by class, as several verbs print them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def class_table(
    title: str,
    columns: Mapping[str, Mapping[str, float | None]],
    means: Mapping[str, float] | None = None,
    *,
    notes: Mapping[str, Mapping[str, str]] | None = None,
    decimals: int = 1,
) -> Table:
    """A table with one row per class and one column per set of shares (0..1), in percent.

    Args:
        columns: heading -> class -> share; a class that a column lacks, or has as None, is a dash.
        means: heading -> share, as a last row.
        notes: heading -> class -> text, as further columns.
    """
    from rich.table import Table

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.{decimals}f}"

    table = Table("class", title=title)
    for heading in columns:
        table.add_column(heading, justify="right")
    notes = notes or {}
    for heading in notes:
        table.add_column(heading)
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    for name in names:
        cells = (cell(column.get(name)) for column in columns.values())
        texts = (column.get(name, "") for column in notes.values())
        table.add_row(name.replace("_", " "), *cells, *texts)
    if means is not None:
        table.add_section()
        table.add_row("mean", *(cell(means.get(heading)) for heading in columns), style="bold")
    return table
