"""An order with real parts: ``saga`` is the file to read, the others are what its steps act upon.

``shop`` is a database of its own, ``payments`` the client of a payment service that runs over HTTP in ``bank``,
``outbox`` a folder of mails. ``stage`` says where all that lives and lets things go wrong on purpose, ``demo`` is the
command line: ``python -m sagadsl.examples.order``. An order can also be taken further with
``sagadsl resume --target sagadsl.examples.order.saga:place_order``.
"""

from sagadsl.examples.order.demo import main

__all__ = ["main"]
