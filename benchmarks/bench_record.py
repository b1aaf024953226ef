"""How fast the recorder writes: the same as `condense bench record`.

python benchmarks/bench_record.py [--json F] [--folder DIR] [--seconds 10] [--no-live]
"""

import typer

from condense_ros.cli.commands.bench_record import record

if __name__ == "__main__":
    typer.run(record)
