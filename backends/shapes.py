"""What shapes functions take and make. Shapes are those of one example: without the leading batch axis.

Channels stand last: a series is (length, channels), an image (height, width, channels). A rule takes the input's
shape and the function's arguments; a refusal is the reason, or None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Shape = tuple[int, ...]
Numbers = Mapping[str, object]


def _int(args: Numbers, name: str) -> int:
    return int(str(args[name]))


def windows(shape: Shape, size: int, stride: int, padding: int) -> Shape:
    """How many windows of `size` fit along each axis but the channels', `padding` zeros added at both ends."""
    return tuple((length + 2 * padding - size) // stride + 1 for length in shape[:-1])


def window_refusal(shape: Shape, args: Numbers, axes: tuple[int, ...]) -> str | None:
    """Why windows cannot slide over this input, which must have one of these numbers of axes besides the channels."""
    if len(shape) - 1 not in axes:
        kinds = " or ".join(
            {1: "(length, channels)", 2: "(height, width, channels)"}[count] for count in axes
        )
        return f"needs {kinds}"
    size, padding = _int(args, "window"), _int(args, "padding")
    if shortest := [length for length in shape[:-1] if length + 2 * padding < size]:
        return f"needs a window no longer than the padded input: {size} > {shortest[0]} + 2·{padding}"
    return None


def pool_refusal(shape: Shape, args: Numbers) -> str | None:
    """As torch: a window that lies wholly in the padding would have no maximum."""
    size, padding = _int(args, "window"), _int(args, "padding")
    if 2 * padding > size:
        return f"needs a padding of at most half the window: {padding} > {size}/2"
    return window_refusal(shape, args, (1, 2))


def convolution_weight(shape: Shape, args: Numbers) -> Shape:
    """(window, ..., in, out), one window axis for each axis but the channels'."""
    axes = len(shape) - 1
    return (*[_int(args, "window")] * axes, shape[-1], _int(args, "size"))


def slid(shape: Shape, args: Numbers, channels: int) -> Shape:
    """The output of a function that slides windows over its input."""
    return (*windows(shape, _int(args, "window"), _int(args, "stride"), _int(args, "padding")), channels)


def flat(shape: Shape) -> Shape:
    """One axis of as many elements."""
    return (math.prod(shape),)


def attention_refusal(shape: Shape, args: Numbers) -> str | None:
    """Sequences whose width the heads divide."""
    if len(shape) != 2:
        return "needs sequences, (length, width)"
    heads = _int(args, "heads")
    return f"needs a width that {heads} heads divide, not {shape[1]}" if shape[1] % heads else None


def added(shape: Shape, branches: Sequence[Shape]) -> Shape | None:
    """The shape of x + Σ branches; None unless all are of one shape."""
    return shape if all(branch == shape for branch in branches) else None


def joined(shape: Shape, branches: Sequence[Shape]) -> Shape | None:
    """The shape of the branches side by side along the last axis; None unless the other axes are equal."""
    if len({branch[:-1] for branch in branches}) > 1:
        return None
    return (*branches[0][:-1], sum(branch[-1] for branch in branches))
