"""The forms of an adopted JAX model that we call, what its Haiku modules give, and its trees by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import haiku as hk
import jax
import jax.core
import jax.extend.core
import jax.numpy as jnp

from lockstep.backends.adoption import Tree, called
from lockstep.backends.problem import Arrays

Apply = Callable[[Tree, Tree, Any, Any], tuple[Any, Tree]]
"""(parameters, buffers, key, x) -> (output, buffers)."""


def applying(model: Any, with_state: bool, with_key: bool) -> Apply:
    """The user's model in the one form that we call."""
    if isinstance(model, (hk.Transformed, hk.TransformedWithState)):
        return haiku(model)

    def apply(params: Tree, buffers: Tree, key: Any, x: Any) -> tuple[Any, Tree]:
        given = (params, *((buffers,) if with_state else ()), x, *((key,) if with_key else ()))
        output = model(*given)
        return output if with_state else (output, buffers)

    return apply


def haiku(model: hk.Transformed | hk.TransformedWithState) -> Apply:
    """A Haiku transform; one that went through `hk.without_apply_rng` takes no key."""
    draws = "rng" in inspect.signature(model.apply).parameters
    has_state = isinstance(model, hk.TransformedWithState)

    def apply(params: Tree, buffers: Tree, key: Any, x: Any) -> tuple[Any, Tree]:
        given = (params, *((buffers,) if has_state else ()), *((key,) if draws else ()))
        output = called(partial(model.apply, *given), x)
        return output if has_state else (output, buffers)

    return apply


def keeping(seen: dict[str, Any]) -> Callable[..., Any]:
    """An interceptor that keeps what each Haiku module gives; of one that is called again, under ``name#1``.

    What is given inside of a scan, a vmap or a remat exists there alone, and is not kept.
    """
    outside = level()

    def keep(method: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        output = method(*args, **kwargs)
        first = output[0] if isinstance(output, tuple) and output else output
        here = outside == level()
        if here and context.method_name == "__call__" and isinstance(first, jax.Array):
            name = context.module.module_name
            calls = sum(one.partition("#")[0] == name for one in seen)
            seen[f"{name}#{calls}" if calls else name] = first
        return output

    return keep


def level() -> object:
    """What is traced where we are: within a scan something else than outside of it."""
    home: Any = (
        jax.extend.core if hasattr(jax.extend.core, "get_opaque_trace_state") else jax.core
    )  # moved in JAX 0.10
    state: object = home.get_opaque_trace_state(convention="flax")
    return state


def named(tree: Tree) -> dict[str, Any]:
    """The leaves of a tree by their path, sorted."""
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return dict(sorted((path(keys), leaf) for keys, leaf in found))


def written(tree: Tree, arrays: Arrays) -> Tree:
    """The tree with the arrays that are named in place of its leaves, copied; other leaves stay."""

    def leaf(keys: Any, old: Any) -> Any:
        new = arrays.get(path(keys))
        return old if new is None else jnp.array(new, dtype=jnp.asarray(old).dtype, copy=True)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def path(keys: Any) -> str:
    """``layers/0/weight``; the attribute in which NNX keeps a variable's array is left out."""
    words = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in keys]
    return "/".join(words[:-1] if len(words) > 1 and words[-1] in ("value", "raw_value") else words)
