"""A benchmark's document as tables of words, which the terminal, Markdown and the page write each in their way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lockstep.harness.benchmark import units
from lockstep.harness.benchmark.against import regressed, unjudged

Document = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what it is of.
        head: the columns' titles.
        rows: the cells; a row may be shorter than the head.
        notes: what must be known to read it, and why a time is missing, one sentence each.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


TIMES = (
    *("backend", "verdict", "median", "quartiles", "interval", "repetitions", "first result", "import"),
    *("compile", "an epoch", "examples/s", "peak", "risen", "on device", "of limit"),
)


def tables(told: Document) -> Iterator[Table]:
    """All tables, in the order in which a reader asks."""
    for entries in groups(told):
        yield Table(_title(entries[0]), TIMES, [_times(one) for one in entries], [*_notes(entries)])
    if told["growth"]:
        yield _growth(told["growth"])
    if told["against"]:
        yield _against(told["against"])


def groups(told: Document) -> Iterator[list[Document]]:
    """The entries of every problem in one dtype at one size: all backends."""
    for _, group in itertools.groupby(told["entries"], _case):
        yield list(group)


def _case(entry: Document) -> tuple[str, str, str]:
    return entry["problem"], entry["dtype"], entry["sha256"]


def _title(entry: Document) -> str:
    sizes = ", ".join(f"{count:,} {name}" for name, count in entry["size"].items())
    return f"{entry['problem']} {entry['dtype']}: {sizes}"


def _times(entry: Document) -> list[str]:
    """A time only beside AGREE; without one the row ends."""
    found, verdict = entry["figures"], entry["verdict"]
    if found is None:
        return [entry["backend"], verdict, "-"]
    return [
        entry["backend"],
        f"{verdict} ({entry['verified']['epochs']} epochs)",
        units.seconds(found["median"]),
        units.span(found["quartiles"]),
        f"{units.span(found['interval'])} ({found['coverage']:.0%})" if found["coverage"] else "-",
        str(len(entry["repetitions"])),
        units.seconds(found["result"]),
        units.seconds(found["imported"]),
        units.seconds(found["compiled"]),
        units.seconds(found["per_epoch"]),
        units.count(found["examples_per_second"]),
        units.size(found["peak_bytes"]),
        units.size(found["risen_bytes"]),
        units.size(found["device_bytes"]),
        units.times(found["of_limit"]),
    ]


def _notes(entries: Sequence[Document]) -> Iterator[str]:
    for one in entries:
        if not one["figures"]:
            yield f"{one['backend']}: {one['verdict']}: {one['reason'] or 'not measured'}"
    yield _limit(entries[0])


def _limit(entry: Document) -> str:
    need = entry["need"]
    return (
        f"limit: {units.seconds(need['seconds'])}, for at least {units.size(need['bytes'])} moved and "
        f"{units.count(need['flops'])} operations of products"
    )


def _growth(growth: Sequence[Document]) -> Table:
    rows = [
        (
            one["problem"],
            one["dtype"],
            one["backend"],
            one["axis"],
            units.exponent(one["exponent"]),
            f"{units.exponent(one['least'])} to {units.exponent(one['most'])}",
        )
        for one in growth
    ]
    head = ("problem", "dtype", "backend", "of", "exponent", "between neighbours")
    return Table("Growth", head, rows, ["time ~ size^exponent, fitted to the medians"])


def _against(against: Document) -> Table:
    rows = [
        [one["problem"], one["dtype"], one["backend"], *_ratio(one, against["fail_over"])]
        for one in against["rows"]
    ]
    head = ("problem", "dtype", "backend", "new / old", "interval", "")
    return Table("Against the baseline", head, rows, against["differ"])


def _ratio(row: Document, fail_over: float | None) -> list[str]:
    if row["ratio"] is None:
        return ["-", "-", row["reason"]]
    low, high = row["interval"]
    word = f"over {fail_over:g}" if row["regressed"] else ""
    return [f"{row['ratio']:.3f}", f"{low:.3f} to {high:.3f} ({row['coverage']:.0%})", word]


def where(told: Document) -> str:
    """The machine in a sentence: processor, threads, load, limits."""
    machine, environment = told["machine"], told["environment"]
    cpus = (
        f"processors {', '.join(map(str, machine['cpus']))}" if machine["cpus"] else "processors not pinned"
    )
    load = "" if machine["load"] is None else f", load {machine['load']:.2f} at the start"
    copy = [f"{units.count(one['rate'])}B/s with {units.size(one['bytes'])}" for one in machine["copy"]]
    matmul = [f"{units.count(one['rate'])}flop/s in {one['dtype']}" for one in machine["matmul"]]
    rates = f"; copies {', '.join(copy)}; multiplies matrices at {', '.join(matmul)}" if copy else ""
    return f"{environment['cpu']}: {_plural(machine['threads'], 'thread')}, {cpus}{load}{rates}"


def outcome(told: Document) -> list[str]:
    """What must be heard first, one sentence each."""
    said = ["interrupted: these are the repetitions that were finished"] if told["interrupted"] else []
    silent = [one for one in told["entries"] if one["verdict"] != "AGREE"]
    said += [f"no time for {_plural(len(silent), 'run')}: a verdict is not AGREE"] if silent else []
    said += [*_noise(told), *_baseline(told)]
    return said or [f"{_plural(len(told['entries']), 'run')} timed, all of them AGREE"]


def noisy(told: Document) -> list[Document]:
    """The entries whose interval is wider than was asked."""
    return [one for one in told["entries"] if one["figures"] and one["figures"]["precise"] is False]


def _noise(told: Document) -> Iterator[str]:
    wide = noisy(told)
    if wide:
        reached = ", ".join(f"{one['backend']} {_reached(one)}" for one in wide)
        yield (
            f"too noisy, or too little time, for intervals within {told['asked']['width']:.3g} of the median at "
            f"{told['asked']['level']:.0%}; reached: {reached}"
        )
    for one in told["entries"]:
        if one["figures"] and not one["figures"]["reproduced"]:
            yield f"{one['backend']} on {one['problem']} {one['dtype']}: the losses differ between repetitions"


def _reached(entry: Document) -> str:
    found = entry["figures"]
    if not found["coverage"]:
        return "one repetition"
    return f"{units.share(found['width'])} ({found['coverage']:.0%})"


def _baseline(told: Document) -> Iterator[str]:
    against = told["against"]
    if against and not against["valid"]:
        yield f"the comparison with the baseline is not valid: {'; '.join(against['differ'])}"
    elif regressed(told):
        slower = [row["backend"] for row in against["rows"] if row["regressed"]]
        yield f"slower than the baseline by more than {against['fail_over']:g}: {', '.join(slower)}"
    if against and against["valid"] and unjudged(told):
        missing = (f"{row['backend']} {row['reason']}" for row in against["rows"] if row["ratio"] is None)
        yield f"--fail-over {against['fail_over']:g} could not be judged: {', '.join(missing)}"


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
