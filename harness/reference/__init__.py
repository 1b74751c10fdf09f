"""Lists and pages that are generated from the tables of members."""
