"""How fast losses and samplers are: the same as `condense bench losses`.

python benchmarks/bench_losses.py [--json F] [--seconds 1] [--threads 1]
"""

import typer

from condense_ros.cli.commands.bench_losses import losses

if __name__ == "__main__":
    typer.run(losses)
