"""What a call of a saga asks for, and what it turns out to mean."""

from __future__ import annotations

from sagadsl._core.definition import SagaSpec
from sagadsl._core.flow import Ended
from sagadsl._core.journal import Journal
from sagadsl._core.ownership import Tenure
from sagadsl._core.scope import Scope
from sagadsl._core.scope.slot import OpenRun
from sagadsl._core.settings import Options


class Asked:
    """What a call asks for: a saga with arguments (as JSON text, and their digest), in a journal."""

    def __init__(
        self, spec: SagaSpec, options: Options, journal: Journal, arguments: str, digest: str, tenure: Tenure
    ) -> None:
        self.spec, self.options, self.journal, self.tenure = spec, options, journal, tenure
        self.arguments, self.digest = arguments, digest


class Opened:
    """What a call of a saga means: its *scope* is to be run, unless *ended* says what is already on record.

    The *record* of a run that is completed has what its steps gave.
    """

    def __init__(
        self,
        scope: Scope | None = None,
        ended: Ended | BaseException | None = None,
        run: OpenRun | None = None,
        record: Scope | None = None,
    ) -> None:
        self.scope, self.ended, self.run, self.record = scope, ended, run, record

    @property
    def any_run(self) -> OpenRun | None:
        """The run that it is about, as far as that is known."""
        return self.run if self.scope is None else self.scope.run
