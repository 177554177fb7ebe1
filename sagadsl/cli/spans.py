"""Times as people type them: how long (``30d``, ``12h``), and since when (``2h``, ``2026-11-22``)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import click

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Span(click.ParamType):  # type: ignore[type-arg]  # generic in later clicks alone
    """How long: a number and a unit."""

    name = "SPAN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the time."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value)
        if found is None:
            self.fail(f"{value!r} is no span of time: give a number and s, m, h, d or w, such as 30d", param, ctx)
        return timedelta(**{UNITS[found[2]]: float(found[1])})


class Moment(click.ParamType):  # type: ignore[type-arg]  # as above
    """Since when: so long ago, or a date or time, of this place where it names no zone."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time, with its zone."""
        try:
            return datetime.fromisoformat(value).astimezone()
        except ValueError:
            pass
        try:
            return datetime.now().astimezone() - Span().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is no time: give 2026-11-22, 2026-11-22T10:00, or an age such as 2h", param, ctx)
