"""Names and layouts of parameters between two sides: described, found, and applied."""
