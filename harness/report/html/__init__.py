"""The document as one HTML file that loads nothing else."""

from lockstep.harness.report.html.page import render

__all__ = ["render"]
