"""`condense eval`: what was learned, measured by published protocols; one file per verb."""

from __future__ import annotations

import typer

from condense_ros.cli.commands import (
    eval_ablation,
    eval_robustness,
    eval_segmentation,
    eval_similarity,
)

app = typer.Typer(help="Measure what was learned.", no_args_is_help=True)
app.command("ablation")(eval_ablation.ablation)
app.command("robustness")(eval_robustness.robustness)
app.command("segmentation")(eval_segmentation.segmentation)
app.command("similarity")(eval_similarity.similarity)


@app.callback()
def evaluate() -> None:
    """Measure what was learned."""
