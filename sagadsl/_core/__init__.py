"""The saga itself: a fold over its journal, told by generators, acted by two drivers.

Floors, from the ground: ``values`` and ``retry`` | ``state``, ``codec``, ``effects``, ``journal`` | ``scope`` |
``flow``, ``drive`` and ``history`` | ``runtime``. An import only points down.
"""
