"""The problems of the catalogue, one family a file."""
