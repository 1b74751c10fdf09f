"""The modules that torch.nn lacks, or has with other arguments; each says which."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from lockstep.backends.ops import Args
from lockstep.backends.shapes import Shape


class Bias(nn.Module):
    """x + b. torch.nn has no layer that only adds."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bias


class Scale(nn.Module):
    """x ⊙ s. torch.nn has no layer that only multiplies."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


class Lambda(nn.Module):
    """A function without parameters, for those that have no class in torch.nn."""

    def __init__(self, f: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._f = f

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._f(x)


class BatchNorm(nn.Module):
    """Batch norm over the last axis with the stated running averages.

    nn.BatchNorm1d, over rows, where it has them: unbiased, from mean 0 and variance 1 on. It has no switch for
    the biased variance nor for debiased averages, so those are moved here.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    count: torch.Tensor

    def __init__(self, shape: Shape, args: Args) -> None:
        super().__init__()
        epsilon, self._momentum = float(args["epsilon"]), float(args["momentum"])
        self._unbiased, self._debias = bool(args["unbiased"]), bool(args["debias"])
        self._own = self._debias or not self._unbiased
        self.norm = nn.BatchNorm1d(shape[-1], epsilon, self._momentum, track_running_stats=not self._own)
        if self._own:
            self.register_buffer("running_mean", torch.zeros(shape[-1]))
            self.register_buffer("running_var", torch.ones(shape[-1]))
            self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if self._own and self.training:
            self._move(rows.detach())
        if not self._own or self.training:
            normal: torch.Tensor = self.norm(rows)
        else:
            normal = self._evaluated(rows)
        return normal.reshape(x.shape)

    def _move(self, rows: torch.Tensor) -> None:
        variance, mean = torch.var_mean(rows, 0, correction=int(self._unbiased))
        self.running_mean.lerp_(mean, self._momentum)
        self.running_var.lerp_(variance, self._momentum)
        self.count += 1

    def _evaluated(self, rows: torch.Tensor) -> torch.Tensor:
        weight: torch.Tensor | float = 1.0
        if self._debias:
            weight = torch.where(self.count > 0, 1 - (1 - self._momentum) ** self.count.double(), 1.0)
        return nn.functional.batch_norm(
            rows,
            self.running_mean / weight,
            self.running_var / weight,
            self.norm.weight,
            self.norm.bias,
            eps=self.norm.eps,
        )


class Dropout(nn.Module):
    """x ⊙ mask in training. nn.Dropout draws a mask of its own; here the trainer sets the problem's before each step."""

    mask: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.mask if self.training else x


class Embedding(nn.Embedding):
    """nn.Embedding for ids that come as floats, as data do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.long())


class ChannelsLast(nn.Module):
    """A module of torch, whose channels stand first, over inputs whose channels stand last."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.module(x.movedim(-1, 1))
        return output.movedim(1, -1)


class Attention(nn.Module):
    """Self-attention by torch's own projections and scaled_dot_product_attention.

    nn.MultiheadAttention keeps the three input projections as one parameter, which to an optimizer that takes
    norms over a parameter is another one.
    """

    def __init__(self, shape: Shape, args: Args) -> None:
        super().__init__()
        self._heads, self._causal = int(args["heads"]), bool(args["causal"])
        self.query, self.key, self.value, self.output = (nn.Linear(shape[-1], shape[-1]) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, width = x.shape
        q, k, v = (
            project(x).reshape(n, t, self._heads, -1).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self._causal)
        output: torch.Tensor = self.output(attended.transpose(1, 2).reshape(n, t, width))
        return output


class Residual(nn.Module):
    """x + Σ branches(x)."""

    def __init__(self, branches: Iterable[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x
        for branch in self.branches:
            total = total + branch(x)
        return total


class Parallel(nn.Module):
    """The branches of x side by side along the last axis."""

    def __init__(self, branches: Iterable[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=-1)
