"""Adoption of a user's own training code: as an implementation like any other."""
