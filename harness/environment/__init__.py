"""The machine and the versions that numbers depend on, and what can run here."""
