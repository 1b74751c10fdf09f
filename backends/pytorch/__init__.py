"""The PyTorch backend: torch.nn modules and torch.optim optimizers."""

from lockstep.backends.pytorch.adoption.trainer import adopt

__all__ = ["adopt"]
