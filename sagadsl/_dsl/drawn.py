"""Sagas draw themselves when they are first asked to: reading code is for people, and no run needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagadsl._core.later import Later

if TYPE_CHECKING:
    from sagadsl.report import graph as graphs
else:
    graphs = Later("sagadsl.report.graph")


class Drawn:
    """A saga that draws itself."""

    __slots__ = ()

    def graph(self) -> graphs.Graph:
        """Return what the saga's body calls, as its code has it."""
        from sagadsl._dsl.reading import saga_graph

        return saga_graph(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002  # IPython's
        return self.graph()._repr_mimebundle_()
