#!/usr/bin/env bash
# The core under a tool that finds what no test can see, built in a folder of its own:
#
#   tests/sanitizers/run.sh address [pytest arguments]   AddressSanitizer, UndefinedBehaviorSanitizer
#   tests/sanitizers/run.sh thread [pytest arguments]    ThreadSanitizer
#   tests/sanitizers/run.sh memory                       valgrind's memcheck, of short.py
#
# Without pytest arguments, all tests but those of `elsewhere`. PYTHON is an interpreter that has what
# the tests need, and Cython; CC must be GCC.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tool=$1
shift
python=$(command -v "${PYTHON:-python3}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r fastnn src tests examples setup.py pyproject.toml README.md LICENSE licenses "$scratch"
sanitizers=$scratch/tests/sanitizers
cd "$scratch"
rm -f fastnn/_native.*.so
export PYTHONPATH=$scratch PYTHONDONTWRITEBYTECODE=1

build() { # compiler flags, which the linker gets too
  CFLAGS="-g -O1 -fno-omit-frame-pointer $*" LDFLAGS="$*" \
    "$python" setup.py --quiet build_ext --inplace >"$scratch/build.log" 2>&1 ||
    { cat "$scratch/build.log" && exit 1; }
  # Without OpenMP the core is one thread, and has no races to find.
  [[ $(ldd fastnn/_native.*.so) = *libgomp* ]] || {
    echo "$0: the core was built without OpenMP" >&2
    exit 1
  }
}
library() { gcc -print-file-name="lib$1.so"; }
elsewhere=(
  --ignore=tests/test_build.py       # builds cores of its own, without a sanitizer
  --ignore=tests/test_kernels.py     # the same of the kernels
  --ignore=tests/test_wheel.py       # of wheels: the core in them is another
  --ignore=tests/test_disassembly.py # of the instructions of a core without a sanitizer
  # Memory that the process takes, of which the sanitizer takes the most.
  --deselect=tests/reliability/test_memory.py::test_peak
  --deselect=tests/reliability/test_memory.py::test_soak
  --deselect=tests/test_benchmark.py::TestSections::test_memory_is_measured_in_another_process
  # A malloc, and threads, of the test's own, which come before all others, as the sanitizer's must.
  --deselect=tests/reliability/test_memory.py::test_steps_allocate_nothing
  --deselect=tests/reliability/test_threads.py::test_a_system_that_gives_no_threads
)
# A finding ends the process, and with it what pytest keeps: so that is only what Python prints, and
# reports go to files. One in a process that a test started is a finding, whatever the test says.
test() {
  local code=0
  "$python" -m pytest -q --capture=sys -p no:cacheprovider -p no:faulthandler "${elsewhere[@]}" "$@" ||
    code=$?
  if grep --quiet --no-messages "ERROR: \|runtime error: \|WARNING: ThreadSanitizer" report*; then
    cat report*
    exit 1
  fi
  exit "$code"
}

case $tool in
  address)
    build -fsanitize=address,undefined -fno-sanitize-recover=all
    # Leaks: Python itself keeps much until the end; the soak test looks for ours, without this.
    export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:log_path=$scratch/report
    export UBSAN_OPTIONS=print_stacktrace=1:log_path=$scratch/report PYTHONMALLOC=malloc
    LD_PRELOAD="$(library asan) $(library ubsan)" test "$@"
    ;;
  thread)
    build -fsanitize=thread
    # GNU's OpenMP is not built for it, so all that it orders would look unordered: threads.c is an
    # OpenMP of POSIX threads, which ThreadSanitizer understands.
    gcc -g -O1 -fPIC -shared -fsanitize=thread -o libgomp.so.1 "$sanitizers/threads.c" -lpthread
    export TSAN_OPTIONS="halt_on_error=1 log_path=$scratch/report"
    export OPENBLAS_NUM_THREADS=1 # NumPy's is not built for it either
    LD_LIBRARY_PATH=$scratch LD_PRELOAD="$(library tsan) $scratch/libgomp.so.1" test "$@"
    ;;
  memory)
    command -v valgrind >/dev/null || { echo "valgrind is missing: apt install valgrind" >&2 && exit 1; }
    build -DNDEBUG
    # valgrind knows no AVX-512
    FASTNN_ISA=avx2 PYTHONMALLOC=malloc OMP_NUM_THREADS=2 valgrind --quiet --error-exitcode=9 \
      --suppressions="$sanitizers/python.supp" "$python" "$sanitizers/short.py"
    ;;
  *)
    echo "$0: expected address, thread or memory, got $tool" >&2
    exit 2
    ;;
esac
