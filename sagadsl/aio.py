"""What waits or branches, for an ``async def``: the same names as in `sagadsl`, awaited."""

from sagadsl._dsl.branches import aparallel as parallel
from sagadsl._dsl.resuming import aresume_all as resume_all

__all__ = ["parallel", "resume_all"]
