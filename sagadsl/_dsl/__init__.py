"""What users write: ``@step`` and ``@saga``, and what they can ask inside. Meaning is ``_core``'s; this is its face.

Steps: ``steps`` is the decorator and what a call does, ``step_options`` what its options mean, ``branches`` are calls
at the same time, ``recorded`` has steps that are ready (``now()``), ``archive`` a compensation that is.

Sagas: ``saga`` is the word itself, ``sagas`` the decorator, ``blocks`` a saga without a function (``undecorated``: of
functions nobody has decorated; ``unended``: whose end nobody has said). ``running`` is a saga from its call to its end,
``outcomes`` what comes out, ``notifying`` who is told of it.

Afterwards: ``reopening`` runs a body over its record, ``resuming`` does so for all that a program left unfinished.

Beside them: ``current`` says where the program is, ``named`` calls a saga with what a command line can say, ``script``
as a process's whole work; ``drawn`` and ``reading`` make a graph of its code, and ``kernel`` heeds a notebook's stop
button. ``options``, ``decorated`` and ``rules`` are what steps and sagas, and the two colours, have alike.
"""
