"""Quiet commands, whose standard error has nothing but errors."""

import math

import pytest

from skastro.cli import terminal


@pytest.fixture(autouse=True)
def _without_lines(monkeypatch):
    """Print no lines about the progress, which would depend on the time; see test_terminal.py."""
    monkeypatch.setattr(terminal, "_NEW_LINE_SECONDS", math.inf)
