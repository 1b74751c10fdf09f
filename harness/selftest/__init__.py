"""The alarm, tested: planted port bugs that must be found and named, and clean problems that must not alarm."""
