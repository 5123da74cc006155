# Every target makes its own .venv when there is none. `make demo` and `make test` are all a fresh machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
# torch first and pinned: a bare requirement pulls gigabytes of CUDA on a machine without a GPU.
TORCH ?= $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

.PHONY: help install demo test test-fast lint format docs proofs gpu mutants bench clean

help:
	@echo "make demo     teacher, samples, students, report on a built-in task, a few minutes on a laptop CPU"
	@echo "make test     every test (reference, properties, unit, integration, package)"
	@echo "make lint     ruff, mypy, import-linter, spelling"
	@echo "make docs     the site, with links checked, in docs/_build/html"
	@echo "make proofs   compile and check the Coq proofs (Debian: apt-get install coq)"
	@echo "make mutants  change the backend in many ways and show that the tests notice"
	@echo "make bench    speed and memory beside other toolkits (QUESTIONS=losses: one of them)"
	@echo "make gpu      the tests that need a CUDA device"

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/fdistill demo --out runs/demo

test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q

test-fast: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q -m "not slow" tests/reference tests/properties tests/unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/python -m sphinx -W --keep-going -q -c docs -d docs/_build/doctrees . docs/_build/html
	@echo "docs/_build/html/index.html"

proofs:
	$(PYTHON) proofs/check.py

mutants: install
	$(BIN)/python -m tests.mutants.run

# A venv of its own: other toolkits are measured here and nowhere needed. One that cannot be installed is skipped with a word.
$(BENCH)/.installed: pyproject.toml constraints.txt benchmarks/peers.txt
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install -q --disable-pip-version-check $(TORCH)
	$(BENCH)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e . greenlet
	for peer in $$(cat benchmarks/peers.txt); do \
	  $(BENCH)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt $$peer || echo "$$peer is skipped"; \
	done
	touch $@

bench: $(BENCH)/.installed
	$(BENCH)/bin/python -m benchmarks $(QUESTIONS)

gpu: install
	$(BIN)/python -m pytest -q -m gpu
	$(BIN)/python -m pytest -q tests/properties/test_backend_kernels.py

clean:
	rm -rf $(VENV) $(BENCH) dist build docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
