"""What this machine and its installation are: versions, threads, devices."""
