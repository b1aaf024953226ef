"""How fast the sparse engine is: the same as `condense bench engine`.

python benchmarks/bench_engine.py [--network minkunet] [--cloud 64beam] [--voxel 0.05] [--json F]
"""

import typer

from condense_ros.cli.commands.bench_engine import engine

if __name__ == "__main__":
    typer.run(engine)
