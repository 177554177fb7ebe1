"""What waits or branches, for an ``async def``: the same names as in `sagadsl`, awaited."""

from sagadsl._dsl.branches import aparallel as parallel

__all__ = ["parallel"]
