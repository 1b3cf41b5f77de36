"""fastnn's other backend, which is the formulas in NumPy."""

from __future__ import annotations

from functools import partial

import numpy as np

from fastnn.benchmark.peers import Peer, native

PEER = Peer("NumPy", np.__version__, partial(native.Model, backend="numpy"))
