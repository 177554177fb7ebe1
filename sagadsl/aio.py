"""What waits or branches, for an ``async def``: the same names as in `sagadsl`, awaited.

The rules of tasks, whoever made them (`parallel`, `asyncio.gather`, a `TaskGroup`, the body itself):

*Order.* After a restart tasks may come in another order. What is on record is called again before anything new begins,
so a new call that comes early waits for it, for a second at most. A ``def`` step cannot wait: coroutines that call some
beside each other are branches of `parallel`, where each has an order of its own.

*A cancellation that the body survived* (`asyncio.timeout`, a `TaskGroup` one of whose tasks failed) is replayed. The
step that it cut off is not entered again: the body waits there for the same cancellation, as long as the run had been
under way when it came, and two seconds. If no timeout around it has come by then, as when it came from outside or
from another step, sagadsl cancels the task there and says so. A step that returned or raised something although it was
cancelled has ended, and comes back at once. What goes on behind a timeout's back (`asyncio.shield`) belongs in a child
saga.

*A run that must stop* (it was cancelled, its code differs from the record, its journal cannot be written) also ends
where its body waits for tasks of its own, at a queue or an `Event`. When one of these tasks meets the reason, the body
is cancelled as soon as no step is under way, and its call raises the reason, such as `RunCancelledError`. A ``def``
that waits for threads of its own cannot be woken: let `sagadsl.parallel` start them, or have each one that ends say so.
"""

from sagadsl._dsl.branches import aparallel as parallel
from sagadsl._dsl.resuming import aresume_all as resume_all

__all__ = ["parallel", "resume_all"]
