"""The certified reference: the NumPy chain over ball arithmetic. `ball` and what builds on it import python-flint."""
