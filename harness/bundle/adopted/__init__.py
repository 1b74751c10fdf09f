"""A user's own training code in a bundle: recorded on one machine or version, replayed and compared on another."""
