"""The PyTorch backend: torch.nn modules and torch.optim optimizers."""

from backends.pytorch.adopted import adopt

__all__ = ["adopt"]
