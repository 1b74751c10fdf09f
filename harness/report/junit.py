"""The document as JUnit's XML, which continuous integration shows: one test case for each problem, dtype and backend."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from lockstep.harness.core.verdict import Verdict
from lockstep.harness.report import attribution

ELEMENTS = {
    Verdict.DIFFER: "failure",
    Verdict.ERROR: "error",
    Verdict.INCONCLUSIVE: "error",
    Verdict.SKIPPED: "skipped",
}
"""The element in a test case that does not agree; a case that could not be judged is no success."""

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write."""


def render(document: dict[str, Any]) -> str:
    """The XML text; the message of a failure is the first divergence, if a diagnosis found one."""
    suite = ElementTree.Element("testsuite", name="lockstep")
    counts = dict.fromkeys(("tests", "failure", "error", "skipped"), 0)
    for case in document["cases"]:
        runs = {run["backend"]: run for run in attribution.of_case(document["runs"], case)}
        for backend, verdict in attribution.verdicts(document, case).items():
            name = _legal(f"{case['problem']} {case['dtype']} {backend}")
            seconds = f"{runs[backend]['seconds']:.3f}"
            one = ElementTree.SubElement(suite, "testcase", classname="lockstep", name=name, time=seconds)
            counts["tests"] += 1
            if verdict is not Verdict.AGREE:
                element = ELEMENTS[verdict]
                counts[element] += 1
                message = _legal(attribution.reason(document, case, backend))
                ElementTree.SubElement(one, element, message=message, type=verdict.value).text = message
    for element, attribute in (
        ("tests", "tests"),
        ("failure", "failures"),
        ("error", "errors"),
        ("skipped", "skipped"),
    ):
        suite.set(attribute, str(counts[element]))
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _legal(text: str) -> str:
    return ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)
