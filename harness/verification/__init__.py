"""Training problems on several backends, and the verdict."""
