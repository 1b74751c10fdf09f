"""Where two implementations first differ, which of them is wrong, and why."""
