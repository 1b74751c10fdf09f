"""A benchmark's document as tables of words, which the terminal, Markdown and the page each write in their format."""

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
        notes: explanations, and the reasons of missing times, one sentence each.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


TIMES = (
    *("backend", "verdict", "median", "quartiles", "interval", "repetitions", "first result", "import"),
    *("compile", "an epoch", "examples/s", "peak", "risen", "on device", "of limit"),
)


def tables(document: Document) -> Iterator[Table]:
    """All tables, the most important first."""
    for entries in groups(document):
        yield Table(_title(entries[0]), TIMES, [_times(one) for one in entries], [*_notes(entries)])
    if document["growth"]:
        yield _growth(document["growth"])
    if document["against"]:
        yield _against(document["against"])


def groups(document: Document) -> Iterator[list[Document]]:
    """The entries of every problem in one dtype at one size: all backends."""
    for _, group in itertools.groupby(document["entries"], _case):
        yield list(group)


def _case(entry: Document) -> tuple[str, str, str]:
    return entry["problem"], entry["dtype"], entry["sha256"]


def _title(entry: Document) -> str:
    sizes = ", ".join(f"{count:,} {name}" for name, count in entry["size"].items())
    return f"{entry['problem']} {entry['dtype']}: {sizes}"


def _times(entry: Document) -> list[str]:
    """A time only next to AGREE; without one the row ends."""
    times, verdict = entry["figures"], entry["verdict"]
    if times is None:
        return [entry["backend"], verdict, "-"]
    return [
        entry["backend"],
        f"{verdict} ({entry['verified']['epochs']} epochs)",
        units.seconds(times["median"]),
        units.span(times["quartiles"]),
        f"{units.span(times['interval'])} ({times['coverage']:.0%})" if times["coverage"] else "-",
        str(len(entry["repetitions"])),
        units.seconds(times["result"]),
        units.seconds(times["imported"]),
        units.seconds(times["compiled"]),
        units.seconds(times["per_epoch"]),
        units.count(times["examples_per_second"]),
        units.size(times["peak_bytes"]),
        units.size(times["risen_bytes"]),
        units.size(times["device_bytes"]),
        units.times(times["of_limit"]),
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


def where(document: Document) -> str:
    """The machine in a sentence: processor, threads, load, limits."""
    machine, environment = document["machine"], document["environment"]
    cpus = (
        f"processors {', '.join(map(str, machine['cpus']))}" if machine["cpus"] else "processors not pinned"
    )
    load = "" if machine["load"] is None else f", load {machine['load']:.2f} at the start"
    copy = [f"{units.count(one['rate'])}B/s with {units.size(one['bytes'])}" for one in machine["copy"]]
    matmul = [f"{units.count(one['rate'])}flop/s in {one['dtype']}" for one in machine["matmul"]]
    rates = f"; copies {', '.join(copy)}; multiplies matrices at {', '.join(matmul)}" if copy else ""
    return f"{environment['cpu']}: {_plural(machine['threads'], 'thread')}, {cpus}{load}{rates}"


def outcome(document: Document) -> list[str]:
    """The most important results, one sentence each."""
    lines = ["interrupted: these are the repetitions that were finished"] if document["interrupted"] else []
    untimed = [one for one in document["entries"] if one["verdict"] != "AGREE"]
    lines += [f"no time for {_plural(len(untimed), 'run')}: a verdict is not AGREE"] if untimed else []
    lines += [*_noise(document), *_baseline(document)]
    return lines or [f"{_plural(len(document['entries']), 'run')} timed, all of them AGREE"]


def noisy(document: Document) -> list[Document]:
    """The entries whose interval is wider than was asked."""
    return [one for one in document["entries"] if one["figures"] and one["figures"]["precise"] is False]


def _noise(document: Document) -> Iterator[str]:
    wide = noisy(document)
    if wide:
        reached = ", ".join(f"{one['backend']} {_reached(one)}" for one in wide)
        yield (
            f"too noisy, or too little time, for intervals within {document['asked']['width']:.3g} of the median at "
            f"{document['asked']['level']:.0%}; reached: {reached}"
        )
    for one in document["entries"]:
        if one["figures"] and not one["figures"]["reproduced"]:
            yield f"{one['backend']} on {one['problem']} {one['dtype']}: the losses differ between repetitions"


def _reached(entry: Document) -> str:
    times = entry["figures"]
    if not times["coverage"]:
        return "one repetition"
    return f"{units.share(times['width'])} ({times['coverage']:.0%})"


def _baseline(document: Document) -> Iterator[str]:
    against = document["against"]
    if against and not against["valid"]:
        yield f"the comparison with the baseline is not valid: {'; '.join(against['differ'])}"
    elif regressed(document):
        slower = [row["backend"] for row in against["rows"] if row["regressed"]]
        yield f"slower than the baseline by more than {against['fail_over']:g}: {', '.join(slower)}"
    if against and against["valid"] and unjudged(document):
        missing = (f"{row['backend']} {row['reason']}" for row in against["rows"] if row["ratio"] is None)
        yield f"--fail-over {against['fail_over']:g} could not be judged: {', '.join(missing)}"


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
