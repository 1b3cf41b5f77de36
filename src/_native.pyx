# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The compiled core: networks in panels, trained and run without the GIL.

`network.pxi` describes a network and its memory, `step.pxi` is one training
step as a team of threads takes it, `forward.pxi` runs a network over rows,
`core.pxi` holds a network for Python, `shuffle.pxi` draws the order of an
epoch's rows, `population.pxi` trains many networks at once; `threads.pxi` says
how many threads there are, and looks at signals.
"""

import os
import time

from numpy import dtype, empty, ndarray

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from cpython.pystate cimport PyThreadState
from cpython.pycapsule cimport PyCapsule_GetPointer
from cython cimport critical_section
from cython.parallel cimport parallel, prange, threadid
from libc.math cimport ilogb, isfinite, pow, sqrt
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from _kernels cimport *


# Without Cython's own handling of the GIL, which is let go in one function and taken in another, and
# of the error, which stays set for the thread until it has the GIL again.
cdef extern from "Python.h" nogil:
    PyThreadState *PyEval_SaveThread() noexcept
    void PyEval_RestoreThread(PyThreadState *state) noexcept
    int check_signals "PyErr_CheckSignals"() noexcept
    unsigned long PyThread_get_thread_ident() noexcept

include "threads.pxi"
include "network.pxi"
include "forward.pxi"
include "step.pxi"
include "core.pxi"
include "shuffle.pxi"
include "population.pxi"
