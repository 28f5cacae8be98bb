"""Each step exposes the same names; see `shape`."""
