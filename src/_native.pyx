# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, embedsignature=True
"""The compiled core: networks in panels, trained and run without the GIL.

`network.pxi` describes a network and its memory, `step.pxi` is one training
step as a team of threads takes it, `forward.pxi` runs a network over rows.
This file is the door from Python.
"""

import os
import time

from numpy import dtype, empty, ndarray

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from cython.parallel cimport parallel, prange, threadid
from libc.math cimport pow, sqrt
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from _kernels cimport *

include "threads.pxi"
include "network.pxi"
include "forward.pxi"
include "step.pxi"
include "core.pxi"
