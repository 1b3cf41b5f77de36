# Each target sets up what it needs in .venv on first use; a second run only does what is left.
#   make demo    train on handwritten digits, and compare
#   make test    run all tests
#   make reliability  what takes minutes of the tests that try to break it
#   make sanitize     some tests under AddressSanitizer, ThreadSanitizer and valgrind (GCC)
#   make bench   time fastnn beside other libraries
#   make lint    style and types
#   make clean   remove all that was built

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test reliability sanitize bench lint clean

demo: $(VENV)/.fastnn
	$(BIN)/python examples/train_mnist.py $(ARGS)

test: $(VENV)/.fastnn
	$(BIN)/python -m pytest $(ARGS)

reliability: $(VENV)/.fastnn
	$(BIN)/python -m pytest -m slow tests/reliability $(ARGS)

SANITIZE = PYTHON=$(BIN)/python tests/sanitizers/run.sh
sanitize: $(VENV)/.fastnn
	$(SANITIZE) address tests/test_native_training.py tests/test_fit.py tests/test_network.py \
	  tests/reliability/test_threads.py tests/reliability/test_numbers.py \
	  -k "not room and not interruption" $(ARGS)
	$(SANITIZE) thread tests/reliability/test_threads.py -k "sixteen or used_by_all or changed" $(ARGS)
	$(SANITIZE) memory

bench: $(VENV)/.fastnn
	$(BIN)/python -m fastnn bench $(ARGS)

lint: $(VENV)/.fastnn
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist demo-output *.egg-info fastnn/_native.*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "fastnn needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	       "Name another: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Editable: a change in fastnn/ needs nothing, a change in src/ compiles what it touches.
$(VENV)/.fastnn: $(BIN)/python setup.py pyproject.toml $(shell find src -type f)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@
