"""What a failed conformance check raises."""

from __future__ import annotations

from lockstep.backends.errors import LockstepError


class Nonconformity(LockstepError, AssertionError):  # noqa: N818 - a finding, reported as a failure
    """A backend or an optimizer does not do what is asked of it; in a test, a failure."""
