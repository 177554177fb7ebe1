"""The one function that digests what is stored, BLAKE2b, without the 3 ms that a process pays for ``hashlib``.

That loads OpenSSL, of which this needs nothing: its `blake2b` is CPython's own, from where it is taken here too.
"""

from __future__ import annotations

try:
    from _blake2 import blake2b
except ImportError:  # another Python keeps it elsewhere
    from hashlib import blake2b

__all__ = ["blake2b"]
