"""The commands, one file each: `add` adds its parser, whose ``run`` takes what was given and returns the status."""
