"""How a result is told. Computes nothing: every figure comes from the comparison."""
