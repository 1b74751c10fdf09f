"""What the pytest plugin needs: its options, and the merged results of a run."""
