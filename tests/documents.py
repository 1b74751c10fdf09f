"""Stored reports for tests of what is made of them: no test here trains anything."""

import copy
import json
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "docs" / "example"

HOSTILE = {
    "markup": "</td></script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "quotes": '"\' onmouseover="alert(1)" x=\'',
    "template": "{{ 7 * 7 }}{% raw %}",
    "lines": "one\ntwo\r\nthree\x00\x1b[31m\x85\u2028",
    "marks": "\u202eevil\u2066\u200f\N{HEBREW LETTER ALEF}\N{ARABIC LETTER BEH}",
    "surrogate": "\ud800 \ufffe",
    "mathematics": "$\\frac{1}{2$ _x_ ^y^",
    "long": "x" * 10_000,
    "empty": "",
}
"""Names that a problem, a parameter or a backend may have."""


def example():
    """The report that docs/example/ keeps."""
    return json.loads((EXAMPLE / "parity.json").read_text(encoding="utf-8"))


def small():
    """A report of three cases: one that differs, one that agrees, one where a backend did not train. Fixed in every figure."""
    content = example()
    (case,) = content["cases"]
    for found in case["diagnoses"]:
        found["ledger"] = [row for row in found["ledger"] if row["step"] == 0][-12:]
    content["command"] = "lockstep verify adam --dtype=float64 --certify"
    for name in ("agrees", "skipped"):
        add(content, name, verdict="AGREE" if name == "agrees" else "SKIPPED")
    skipped = [run for run in content["runs"] if run["problem"] == "skipped"][1]
    skipped.update(verdict="SKIPPED", reason="no module named torch", fix='pip install "torch>=2.6"')
    skipped.update(losses=[], parameters={}, errors=None)
    content["cases"][-1]["reason"] = "torch: no module named torch"
    content["comparisons"] = [
        one for one in content["comparisons"] if (one["problem"], one["right"]) != ("skipped", "torch")
    ]
    return content


def add(content, name, verdict="AGREE"):
    """A case of the two backends of the example that agree, under a name of its own."""
    case = copy.deepcopy(content["cases"][0])
    case.update(problem=name, verdict=verdict, reason="", diagnoses=[], distances=[1e-16, 0.0, 2e-16, 1e-17])
    content["cases"].append(case)
    for rows in (content["runs"], content["comparisons"]):
        rows += [
            {**copy.deepcopy(row), "problem": name}
            for row in rows
            if row["problem"] == "adam" and "ported" not in (row.get("backend"), row.get("right"))
        ]


def renamed(content, old, new):
    """The report with one text in the place of another wherever that is a whole value or a key."""
    if isinstance(content, dict):
        return {new if key == old else key: renamed(value, old, new) for key, value in content.items()}
    if isinstance(content, list):
        return [renamed(one, old, new) for one in content]
    return new if content == old else content


def not_finite(content, word):
    """The report with a word for what is not finite in every figure that may be one."""
    words = {"losses", "distances", "limits", "parameters", "left", "right", "absolute", "relative", "scaled"}
    words |= {"smallest_rtol", "smallest_atol", "used", "detectable", "distance", "limit", "allowed"}
    return {
        **content,
        **{key: _worded(content[key], word, words) for key in ("cases", "runs", "comparisons")},
    }


def _worded(value, word, keys, inside=False):
    if isinstance(value, dict):
        return {key: _worded(one, word, keys, inside or key in keys) for key, one in value.items()}
    if isinstance(value, list):
        return [_worded(one, word, keys, inside) for one in value]
    return word if inside and isinstance(value, float) else value
