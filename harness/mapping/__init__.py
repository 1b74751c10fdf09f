"""Which array of one side is which of the other, and in which layout."""
