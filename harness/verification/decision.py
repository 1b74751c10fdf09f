"""What decides a verdict: the whole runs; where they leave it open, the lockstep run. The same whatever a diagnosis is asked for."""

from __future__ import annotations

import dataclasses

from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.diagnosis import Diagnosis
from lockstep.harness.verification.result import Case
from lockstep.harness.verification.unjudged import without_unjudged

TOLERATED = "the whole runs agree within their tolerance, so that this is no difference of the training"


def is_open(case: Case, left: str, right: str) -> bool:
    """Whether the comparisons of two whole runs decide nothing: the lockstep run must."""
    return case.of_pair(left, right) not in (Verdict.AGREE, Verdict.DIFFER)


def is_wanted(case: Case, left: str, right: str, diagnose: str) -> bool:
    """Whether two runs are diagnosed: because that is asked for, or because only the lockstep run can decide."""
    asked = diagnose == "all" or (diagnose == "differing" and case.verdict is not Verdict.AGREE)
    return asked or is_open(case, left, right)


def decided(case: Case, diagnoses: list[Diagnosis], diagnose: str) -> Case:
    """The case with its diagnoses, and without what nobody can judge.

    A diagnosis of runs that agree is no difference. One that was not asked for stays where it decides.
    """
    judged = [_judged(case, one) for one in diagnoses]
    for one in judged:
        case = without_unjudged(case, one)
    stay = [one for one in judged if diagnose != "none" or one.verdict is Verdict.DIFFER]
    return dataclasses.replace(case, diagnoses=tuple(stay))


def _judged(case: Case, one: Diagnosis) -> Diagnosis:
    if one.verdict is not Verdict.DIFFER or case.of_pair(one.reference, one.backend) is not Verdict.AGREE:
        return one
    sentence = f"{TOLERATED}: {one.sentence}"
    return dataclasses.replace(one, verdict=Verdict.AGREE, sentence=sentence, culprit=None)
