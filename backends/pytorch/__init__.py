"""The PyTorch backend: torch.nn modules and torch.optim optimizers."""
