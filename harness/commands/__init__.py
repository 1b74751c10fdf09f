"""Commands of the command line, one file each; `harness.cli` adds them to its parser."""
