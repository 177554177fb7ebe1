"""Research with a language model: ``python -m sagadsl.examples.research TOPIC``.

`saga` is the page to read: what is asked, what is checked, what a failure does with what was paid for. `desk` holds the
files, `demo` the command line.
"""
