"""Open country: tracks, fields, a wood's edge, relief and seasons."""
