"""The same small model in torch and in a JAX library: once ported right, once with a mistake that people make.

Each module has `original()` (torch), `port()`, `wrong_port()` and `batches()`; the first three are factories for
``lockstep verify --trainer examples.pairs.mlp:original --trainer examples.pairs.mlp:port --batches examples.pairs.mlp:batches``.
"""
