"""How long backends take for the same problem, reported only for those whose parity verdict on it is AGREE.

Nothing is imported here: the processes that are timed begin with this package.
"""
