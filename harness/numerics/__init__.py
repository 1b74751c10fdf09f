"""What rounding can do to a run: budgets, limits, growth, and the certified truth."""
