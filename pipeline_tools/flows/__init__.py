"""Compositions of steps."""
