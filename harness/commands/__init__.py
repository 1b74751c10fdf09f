"""Commands that have a file of their own: each adds its parser and runs."""
