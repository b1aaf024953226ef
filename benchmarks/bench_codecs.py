"""How fast messages become arrays and back: the same as `condense bench codecs`.

python benchmarks/bench_codecs.py [--json F] [--folder DIR] [--seconds 1]
"""

import typer

from condense_ros.cli.commands.bench_codecs import codecs

if __name__ == "__main__":
    typer.run(codecs)
