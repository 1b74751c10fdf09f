"""The document as one HTML file that asks for nothing else."""

from lockstep.harness.report.html.page import render

__all__ = ["render"]
