"""The effects of rounding: twins, budgets, limits, and the certified truth."""
