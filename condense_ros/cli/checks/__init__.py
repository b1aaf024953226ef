"""What `condense doctor` looks at: small functions, each returning findings with their fixes."""

from condense_ros.cli.checks.finding import Finding

__all__ = ["Finding"]
