"""What is done to a journal as a whole, now and then: pruned, copied out and in, backed up, examined.

None of it is on the way of a step. It asks the journal what any reader may ask, and writes by the same few methods, so
a run is never half there. One file for each question.
"""
