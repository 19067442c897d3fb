# make demo    install and run the whole system on this machine
# make test    install and run the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test slow lint format wheel clean
help:
	@sed -n 's/^# make/make/p' Makefile

demo: $(VENV)/.installed
	$(BIN)/simulate loopback --out out/demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest

# make slow    tests that take minutes, the whole demo among them
slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow

# make lint    what every change must pass besides the tests
lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# make wheel   build the wheel into dist/
wheel: $(VENV)/.installed
	$(BIN)/python -m build --wheel --outdir dist .

# make clean   remove the environment and everything built or run here
clean:
	rm -rf $(VENV) build dist out *.egg-info

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, this is {v.major}.{v.minor}; name one with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing about 6 GB of packages into $(VENV): a few minutes, once"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	@touch $@
