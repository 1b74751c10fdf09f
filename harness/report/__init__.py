"""How a result is presented. Computes nothing: every figure comes from the comparison."""
