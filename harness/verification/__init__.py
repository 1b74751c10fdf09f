"""Train, judge and diagnose: problems on backends, and trainers of a user's own code."""
