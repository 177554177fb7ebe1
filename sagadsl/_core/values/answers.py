"""What a probe answers, who is asked whether a step's effect happened: imported by those that ask one."""

from __future__ import annotations

from typing import Any

from attrs import frozen


@frozen
class Landed:
    """A probe's answer: the effect happened, and *value* is what the step would have returned."""

    value: Any = None


@frozen
class NotLanded:
    """A probe's answer: the effect has not happened, and will not."""


@frozen
class Unknown:
    """A probe's answer: it cannot tell."""
