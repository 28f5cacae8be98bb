"""Pure functions over text and values."""
