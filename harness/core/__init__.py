"""Verdicts, distances, tolerances, comparisons and ledgers: pure, no I/O, no framework."""
