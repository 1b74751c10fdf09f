"""Where two sides first diverge, which of them is wrong, and an explanation."""
