"""The saga itself: a fold over its journal, told by generators, acted by two drivers.

Which room stands on which floor is said in ``tests/test_architecture.py``. Which one answers what:

* What is stored, and what may follow what? ``values``, ``state``. As which text? ``codec``, ``digests``. Where?
  ``journal``, in the tables of ``schema``.
* What has the program decorated, and how is it called? ``definition``, ``parameters``, ``retry``. Where is it found?
  ``registry``, and where the program is typed in, ``session``.
* Which arguments are live? ``live``. Where do they come from when nobody calls? ``provided``, ``supply``.
* How does a run stand, and what is owed? ``scope``; where it is read back, ``history``.
* What must happen? ``flow``, which asks for ``effects``. Who makes it happen? ``drive``, ``awaiting``; in a transaction
  of the user's, ``landed``.
* Who opens runs, and lists them? ``runtime``. What can be set? ``settings``. Whose is a run? ``ownership``,
  ``threads``.
* Who is told what happens? ``observers``. What do people see? ``describe``, ``shown``, ``figures``, ``phrases``.
* What is done to a journal as a whole? ``upkeep``.
* What is every room built with? ``structs``, ``later``.
"""
