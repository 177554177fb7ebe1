"""The saga itself: a fold over its journal, told by generators, acted by two drivers.

Floors, from the ground; an import only points down:

1. ``values`` | ``retry`` | ``schema`` | ``parameters``
2. ``state`` | ``codec`` | ``effects`` | ``journal`` | ``definition`` | ``settings``
3. ``scope``
4. ``flow`` (what must happen) | ``drive`` (making it happen) | ``history`` (reading it back) | ``describe``
5. ``runtime``
"""
