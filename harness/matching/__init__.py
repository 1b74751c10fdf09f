"""Finding which parameter of one side is which of the other: by name, by shape, and by function."""
