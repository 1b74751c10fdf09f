"""What a backend shows of itself: its methods, what it claims, what it refuses."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from lockstep.backends import protocol as protocol
from lockstep.backends.problem import DTYPES
from lockstep.backends.protocol import CAPABILITIES, Backend, Disturbable, Trainer, Unsupported
from lockstep.harness.conformance.check import expect
from lockstep.harness.conformance.problems import PROBLEMS
from lockstep.harness.conformance.subject import Subject

_CLAIMED = {
    "fit": ("fit",),
    "stages": ("observe", "clipped"),
    "twins": tuple(
        name for name in vars(Disturbable) if not name.startswith("_") and name not in vars(Trainer)
    ),
}
"""Capability -> the methods that it is about."""


def methods(subject: Subject) -> None:
    """A Protocol is only checked statically; this holds third parties to it as well."""
    found: tuple[tuple[str, object, type], ...] = (
        ("the backend", subject.backend, Backend),
        ("its trainer", subject.trainer, Trainer),
        ("its trainer", subject.trainer, Disturbable),
    )
    for whose, one, asked in found:
        for name, member in _asked(asked, subject):
            expect(hasattr(one, name), f"{whose} to have {name!r}", "no such attribute")
            if inspect.isfunction(member):
                expected = list(inspect.signature(member).parameters)[1:]
                taken = list(inspect.signature(getattr(one, name)).parameters)
                expect(taken == expected, f"{whose}: {name}({', '.join(expected)})", f"({', '.join(taken)})")


def _asked(asked: type, subject: Subject) -> Iterator[tuple[str, object]]:
    """The members of a protocol, without those of capabilities that are not claimed."""
    spared = {
        name
        for capability, names in _CLAIMED.items()
        for name in names
        if capability not in subject.capabilities
    }
    for name, member in vars(asked).items():
        if not name.startswith("_") and name not in spared:
            yield name, member


def name(subject: Subject) -> None:
    """A report must be able to say who."""
    name = subject.backend.name
    expect(isinstance(name, str) and bool(name.strip()), "a name that says something", repr(name))


def capabilities(subject: Subject) -> None:
    """Of the protocol's own words: a word of its own is a claim that nobody hears."""
    claimed = subject.trainer.capabilities
    expect(isinstance(claimed, frozenset), "the capabilities as a frozenset", type(claimed).__name__)
    expect(claimed <= CAPABILITIES, f"some of {sorted(CAPABILITIES)}", sorted(claimed - CAPABILITIES))
    alone = "inject" in claimed and "stages" not in claimed
    expect(not alone, "`inject` only beside `stages`, whose method takes it", sorted(claimed))


def environment(subject: Subject) -> None:
    """The keys that are shared by all, and full precision."""
    environment = subject.backend.environment()
    expect(isinstance(environment.get("version"), str), "`version`, a string", environment.get("version"))
    expect(
        environment.get("reduced_precision") is False,
        "`reduced_precision` False",
        environment.get("reduced_precision"),
    )
    values = {key: value for key, value in environment.items() if not isinstance(value, (str, int, bool))}
    expect(not values, "strings, whole numbers and truth values", values)


def supports(subject: Subject) -> None:
    """It trains something; what it refuses it refuses with a reason, and the same each time."""
    backend, trained = subject.backend, 0
    for make in PROBLEMS.values():
        for dtype in DTYPES:
            problem = make().replace(dtype=dtype)
            first, second = backend.supports(problem), backend.supports(problem)
            worded = first is None or (isinstance(first, Unsupported) and bool(str(first.reason).strip()))
            expect(worded, f"None or {protocol.__name__}.Unsupported with a reason", repr(first))
            expect(first == second, f"the same answer each time: {first!r}", repr(second))
            trained += first is None
    expect(trained > 0, f"some of {len(PROBLEMS)} problems to be trained, in some dtype", "all are refused")
