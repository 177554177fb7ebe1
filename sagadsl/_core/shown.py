"""How runs, and what is made of them, show themselves: each asks ``report`` when it is first looked at.

Values know nothing of text, HTML or pictures. What users hold is one of these as well, so that a notebook shows the
same timeline as a terminal.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal

from sagadsl._core.later import Later
from sagadsl._core.phrases import db_option
from sagadsl._core.values.seen import RunInfo, StepInfo

if TYPE_CHECKING:
    from sagadsl.report import graph as graphs
else:
    graphs = Later("sagadsl.report.graph")


def bundle(text: str, html: str) -> dict[str, str]:
    """Return one thing in both forms, for a notebook to choose from."""
    return {"text/plain": text, "text/html": html}


class ShownRun(RunInfo):
    """A run that shows itself: of a *_journal*, which commands to type have to name."""

    __slots__ = ()
    _journal: Any

    def report(self, format: Literal["text", "html", "markdown", "json"] = "text") -> str:
        """Return what happened, what was compensated, what still stands, and who must do what.

        A long run is folded in the middle. Whatever a journal holds is shown as text, in every format.

        Args:
            format: ``"text"``; ``"html"``, a page of its own, light and dark, without script; ``"markdown"``, as
                GitHub shows it; ``"json"``, the document of ``sagadsl show --json``.

        Raises:
            UsageError: There is no such format.
        """
        from sagadsl.report import local_now, run_report

        return run_report(self, format, options=db_option(self._journal.name), zone=local_now().tzinfo or UTC)

    def graph(self) -> graphs.Graph:
        """Return what the run has called and how that stands: a `Graph` to be looked at, or saved."""
        from sagadsl.report import of_run

        return of_run(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002  # IPython's
        from sagadsl.report import local_now, run_html, run_text

        zone = local_now().tzinfo or UTC
        options = db_option(self._journal.name)
        return bundle(run_text(self, options=options, zone=zone), run_html(self, options, zone=zone))


class Runs(list[Any]):
    """Runs, which a notebook shows as a table."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002  # IPython's
        from sagadsl.report import local_now, runs_html, runs_text

        return bundle(runs_text(self, local_now()) if self else "no runs", runs_html(self))


class Stack(tuple[StepInfo, ...]):
    """What would be compensated, the first to be compensated first; a notebook shows it as a list."""

    __slots__ = ()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002  # IPython's
        from sagadsl.report import stack_html, stack_text

        return bundle(stack_text(self), stack_html(self))
