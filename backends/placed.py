"""Layers at their places in a model: canonical names, and shapes that follow from the input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from lockstep.backends.errors import ProblemError
from lockstep.backends.members import Layer
from lockstep.backends.ops import FUNCTIONS, Args, Buffer, Op
from lockstep.backends.shapes import Shape


class Placed(NamedTuple):
    """A layer at its place in the model: its canonical name and its shapes, one example each."""

    name: str
    op: str
    args: Args
    input_shape: Shape
    output_shape: Shape
    parameters: Mapping[str, Shape]
    buffers: Mapping[str, Buffer]
    branches: tuple[tuple[Placed, ...], ...] = ()

    def leaf(self, parameter: str) -> str:
        """The canonical name of one of its parameters or buffers: ``0.linear/w``."""
        return f"{self.name}/{parameter}"

    @property
    def masked(self) -> bool:
        """Whether training multiplies its input by a mask."""
        return FUNCTIONS[self.op].keep is not None


def walk(layers: Iterable[Placed]) -> Iterator[Placed]:
    """All layers in order, those of branches after the one that holds them."""
    for layer in layers:
        yield layer
        for branch in layer.branches:
            yield from walk(branch)


def place_layers(model: Iterable[Layer], shape: Shape, prefix: str = "") -> tuple[Placed, ...]:
    """The layers of a model over inputs of `shape` (one example), named and with their shapes.

    Raises:
        ProblemError: a layer cannot take its input.
    """
    placed = []
    for index, layer in enumerate(model):
        placed.append(_place(f"{prefix}{index}.{layer.name}", layer, shape))
        shape = placed[-1].output_shape
    return tuple(placed)


def shapes_of(layers: Iterable[Placed]) -> dict[str, Shape]:
    """Shape of each parameter by canonical name, sorted."""
    shapes = {layer.leaf(key): shape for layer in walk(layers) for key, shape in layer.parameters.items()}
    return dict(sorted(shapes.items()))


def _place(name: str, layer: Layer, shape: Shape) -> Placed:
    op = FUNCTIONS[layer.name]
    if reason := op.refuses(shape, layer.args):
        raise ProblemError(f"layer {name!r} cannot take its input", f"shape {shape}", reason)
    branches = tuple(
        place_layers(branch, shape, f"{name}/{index}/") for index, branch in enumerate(layer.branches)
    )
    return Placed(
        name,
        layer.name,
        layer.args,
        shape,
        _output_shape(name, op, layer, shape, branches),
        MappingProxyType(op.parameters(shape, layer.args)),
        MappingProxyType(op.buffers(shape, layer.args)),
        branches,
    )


def _output_shape(
    name: str, op: Op, layer: Layer, shape: Shape, branches: tuple[tuple[Placed, ...], ...]
) -> Shape:
    if op.join is None:
        return op.output(shape, layer.args)
    outputs = [branch[-1].output_shape if branch else shape for branch in branches]
    output = op.join(shape, outputs)
    if output is None:
        raise ProblemError(
            f"the branches of layer {name!r} do not go together",
            f"outputs {', '.join(map(str, outputs))} of an input {shape}",
            f"change their sizes: {op.doc}",
        )
    return output
