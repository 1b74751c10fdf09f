"""Verdicts, distances, tolerances and comparisons: pure values, no files, no framework."""
