"""fastnn side by side with other libraries: ``python -m fastnn bench``.

All of them, the `peers`, get the same `cases`: the same weights, rows and batches, in one process
and taking turns. A table of the report is one of the `sections`; a new peer is a new file.
"""
