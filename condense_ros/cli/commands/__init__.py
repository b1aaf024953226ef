"""One file per verb of `condense`."""
