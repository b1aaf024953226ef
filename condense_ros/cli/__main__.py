"""`python -m condense_ros.cli`."""

from condense_ros.cli import main

main()
