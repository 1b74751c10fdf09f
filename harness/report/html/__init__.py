"""The document as one HTML file that asks for nothing else."""

from harness.report.html.page import render

__all__ = ["render"]
