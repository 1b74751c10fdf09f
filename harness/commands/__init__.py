"""The commands, one file each: `add` adds its parser, whose ``run`` takes the options and returns the status."""
