"""A backend of Lockstep: HIPS autograd, and optimizers written from their formulas.

Importing this package imports no framework: `backend` does, which the entry point names.
"""
