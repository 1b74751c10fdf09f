"""What to train, whether it agrees, and how the result is reported. The public names are those of `lockstep`."""
