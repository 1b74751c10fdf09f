"""The problems of the catalogue, one file a family."""
