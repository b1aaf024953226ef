"""Places: where in a stored map was this cloud taken, or "unknown"."""
