"""A finished run as one page that a committee can read, print and file: ``report.html``."""

from fedcredit.report.page import render, write_report

__all__ = ["render", "write_report"]
