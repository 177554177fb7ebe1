"""What a request to compensate would do: decided by the same code, on a copy of the run that nobody writes."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from sagadsl._core.codec import Codec
from sagadsl._core.describe import step_info
from sagadsl._core.runtime.deciding import Request, decide, is_to_compensate
from sagadsl._core.scope import Scope
from sagadsl._core.values.seen import StepInfo


@frozen(kw_only=True, repr=False)
class DryRun:
    """What compensating a run would do, without doing it.

    *steps* are those whose compensation would be called, in that order, with their arguments. *standing* are the keys
    of those that nothing can undo, *lapsed* of those that can no longer be undone. *undecided* are those of both that
    have to be accepted before anything is done.
    """

    run: str
    to: str | None = None
    steps: tuple[StepInfo, ...] = ()
    standing: tuple[str, ...] = ()
    lapsed: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Give a line for each step, in order."""
        from sagadsl.report import named_values, printable, short_id

        back = f" back to {self.to}" if self.to is not None else ""
        lines = [f"compensating {short_id(self.run)}{back} calls{', in this order:' if self.steps else ' nothing'}"]
        for number, step in enumerate(self.steps, 1):
            given = named_values(step.arguments, 40)
            doubt = "   (its effect is uncertain)" if step.uncertain else ""
            what = f"{printable(step.compensation, 60)}   for {printable(step.key, 60)}({given})"
            lines.append(f"  {number}  {what}{doubt}")
        told = {"cannot be undone": self.standing, "can no longer be": self.lapsed, "accept first": self.undecided}
        lines += [f"  {words}: {printable(', '.join(keys), 400)}" for words, keys in told.items() if keys]
        return "\n".join(lines)


def rehearse(scope: Scope, request: Request, codec: Codec) -> DryRun:
    """Return what a request would do to a run that was read from the journal for this alone.

    Raises:
        RunConflictError: There is no way back.
        UsageError: It names what the run does not have.
    """
    told: dict[str, Any] = {"run": scope.run.id, "to": request.to}
    if not is_to_compensate(scope, request):
        return DryRun(**told)
    undecided = decide(scope, request)
    beyond = [slot for slot in scope.calls() if slot.place > scope.until and not slot.forgotten]
    lapsed = [slot for slot in beyond if 0 < slot.lapses < scope.run.clock() and (slot.is_owed or slot.let_stand)]
    return DryRun(
        **told,
        steps=tuple(step_info(slot, codec) for slot in scope.owed() if slot not in lapsed),
        standing=tuple(slot.key for slot in beyond if slot.is_standing and slot not in lapsed),
        lapsed=tuple(slot.key for slot in lapsed),
        undecided=tuple(slot.key for slot in undecided),
    )
