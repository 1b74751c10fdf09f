"""The forms of an adopted JAX model that we call, what its Haiku modules give, and its trees by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

import haiku as hk
import jax
import jax.core
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from lockstep.backends.adoption import Tree, called
from lockstep.backends.problem import Array, Arrays

Apply = Callable[[Tree, Tree, Any, Any], tuple[Any, Tree]]
"""(parameters, buffers, key, x) -> (output, buffers)."""


def applying(model: Any, with_state: bool, with_key: bool) -> Apply:
    """The user's model in the one form that we call."""
    if isinstance(model, (hk.Transformed, hk.TransformedWithState)):
        return haiku(model)

    def apply(params: Tree, buffers: Tree, key: Any, x: Any) -> tuple[Any, Tree]:
        arguments = (params, *((buffers,) if with_state else ()), x, *((key,) if with_key else ()))
        output = model(*arguments)
        return output if with_state else (output, buffers)

    return apply


def haiku(model: hk.Transformed | hk.TransformedWithState) -> Apply:
    """A Haiku transform; one that went through `hk.without_apply_rng` takes no key."""
    draws = "rng" in inspect.signature(model.apply).parameters
    has_state = isinstance(model, hk.TransformedWithState)

    def apply(params: Tree, buffers: Tree, key: Any, x: Any) -> tuple[Any, Tree]:
        arguments = (params, *((buffers,) if has_state else ()), *((key,) if draws else ()))
        output = called(partial(model.apply, *arguments), x)
        return output if has_state else (output, buffers)

    return apply


def watching(outputs: dict[str, Any], inject: Arrays, perturb: dict[str, Any]) -> Callable[..., Any]:
    """An interceptor that keeps what each Haiku module gives; of one that is called again, under ``name#1``.

    What is given inside of a scan, a vmap or a remat exists there alone, and is not kept.

    Args:
        outputs: where they are kept, by module.
        inject: ``forward/<module>`` and ``cotangent/<module>``: what follows is computed from these values.
        perturb: what is added to an output: the derivative with respect to it is the output's cotangent.
    """
    outside, active = level(), set[int]()

    def keep(method: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = id(context.module)
        if context.method_name != "__call__" or module in active:  # as a subclass calls super().__call__
            return method(*args, **kwargs)
        active.add(module)
        try:
            output = method(*args, **kwargs)
        finally:
            active.discard(module)
        first = output[0] if isinstance(output, tuple) and output else output
        here = outside == level()
        if not (here and isinstance(first, jax.Array)):
            return output
        name = context.module.module_name
        calls = sum(one.partition("#")[0] == name for one in outputs)
        passed = passing(f"{name}#{calls}" if calls else name, first, outputs, inject, perturb)
        if not isinstance(output, tuple):
            return passed
        rest = (passed, *output[1:])
        return type(output)(*rest) if hasattr(output, "_fields") else rest

    return keep


def passing(name: str, output: Any, outputs: dict[str, Any], inject: Arrays, perturb: dict[str, Any]) -> Any:
    """An output as what follows is computed from it; see `watching`."""
    outputs[name] = output
    value, cotangent = (inject.get(f"{kind}/{name}") for kind in ("forward", "cotangent"))
    if cotangent is not None and cotangent.shape == output.shape:
        output = _with_cotangent(output, jnp.asarray(cotangent, output.dtype))
    if value is not None and value.shape == output.shape:
        output = _with_value(output, jnp.asarray(value, output.dtype))
    return output + perturb[name] if name in perturb else output


@jax.custom_vjp
def _with_value(output: Any, value: Any) -> Any:
    """Another value, the cotangent as it comes."""
    return value


_with_value.defvjp(lambda output, value: (value, None), lambda saved, grad: (grad, jnp.zeros_like(grad)))


@jax.custom_vjp
def _with_cotangent(output: Any, cotangent: Any) -> Any:
    """The value as it comes, another cotangent."""
    return output


_with_cotangent.defvjp(
    lambda output, cotangent: (output, cotangent), lambda saved, grad: (saved, jnp.zeros_like(grad))
)


def level() -> object:
    """What is traced where we are: within a scan something else than outside of it."""
    home: Any = (
        jax.extend.core if hasattr(jax.extend.core, "get_opaque_trace_state") else jax.core
    )  # moved in JAX 0.10
    state: object = home.get_opaque_trace_state(convention="flax")
    return state


def named(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """The leaves of a tree by `prefix` and their path, sorted."""
    entries, _ = jax.tree_util.tree_flatten_with_path(tree)
    return dict(sorted((prefix + path(keys), leaf) for keys, leaf in entries))


def arrays(tree: Tree, prefix: str = "") -> dict[str, Array]:
    """As `named`, copied as NumPy arrays; of random keys their words."""
    return {name: _copy(leaf) for name, leaf in named(tree, prefix).items()}


def as_array(leaf: Any) -> Array:
    """A copy; of random keys their words. NumPy has no bfloat16; a float32 holds each of its numbers."""
    array = _copy(leaf)
    return array.astype(np.float32) if array.dtype == jnp.bfloat16 else array


def _copy(leaf: Any) -> Array:
    return np.array(_words(leaf) if _is_key(leaf) else leaf)


def comparable(tree: Tree, dtype: str) -> Tree:
    """The tree, its leaves in half precision in a wider dtype, in which they are compared."""
    return jax.tree.map(lambda one: one.astype(dtype) if _is_half(one) else one, tree)


def coarsest(outputs: Iterable[Any]) -> float:
    """The eps of the coarsest output in half precision; 0 where there is none."""
    halves = [one.dtype for one in outputs if _is_half(one)]
    return max((float(jnp.finfo(one).eps) for one in halves), default=0.0)  # type: ignore[no-untyped-call]


def _is_half(leaf: Any) -> bool:
    return getattr(leaf, "dtype", None) in (jnp.float16, jnp.bfloat16)


def written(tree: Tree, arrays: Arrays, like: Tree = None, prefix: str = "") -> Tree:
    """The tree with the arrays that are named in place of its leaves, copied; other leaves stay.

    Args:
        tree: whose dtypes they get.
        arrays: by `prefix` and path.
        like: a tree on whose devices they are placed, by path; by default `tree`.
        prefix: of the names.
    """
    placed = named(tree if like is None else like)

    def leaf(keys: Any, old: Any) -> Any:
        name = path(keys)
        new = arrays.get(prefix + name)
        return old if new is None else _placed(_copied(new, old), placed.get(name))

    return jax.tree_util.tree_map_with_path(leaf, tree)


def _copied(new: Any, old: Any) -> Any:
    if isinstance(old, (bool, int, float)):
        return type(old)(np.asarray(new).item())
    if _is_key(old):
        key: jax.Array = jax.random.wrap_key_data(jnp.array(new, copy=True), impl=jax.random.key_impl(old))
        return key
    return jnp.array(new, dtype=jnp.asarray(old).dtype, copy=True)


def _placed(new: Any, like: Any) -> Any:
    """Spread over the devices as the user spread `like`; what JAX placed by itself stays free to be placed."""
    spread = isinstance(like, jax.Array) and like.committed
    return jax.device_put(new, like.sharding) if spread else new


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _words(key: Any) -> jax.Array:
    words: jax.Array = jax.random.key_data(key)
    return words


def free_prefix(tree: Tree, taken: Collection[str]) -> str:
    """The prefix under which the leaves of a tree have none of the names that are taken: nothing, where none is."""
    prefix = ""
    while not named(tree, prefix).keys().isdisjoint(taken):
        prefix += "state/"
    return prefix


def path(keys: Any) -> str:
    """``layers/0/weight``; the attribute in which NNX keeps a variable's array is left out."""
    words = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in keys]
    return "/".join(words[:-1] if len(words) > 1 and words[-1] in ("value", "raw_value") else words)
