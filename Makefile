# make demo        FT and the paper's terms on synthetic faces
# make test        lint, types, documentation, and all tests but the slow ones
# make test-slow   the slow tests: the paper's systems at 256 px
# make docs        the documentation as a site, into build/site
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
RUN := $(UV) run --no-sync

.PHONY: demo test test-slow lint docs setup

demo: setup
	$(RUN) xtask-reg demo

test: lint docs
	$(RUN) pytest -n auto --maxprocesses 4

test-slow: setup
	OMP_NUM_THREADS=1 $(RUN) pytest -m slow -n auto --maxprocesses 2 --dist loadgroup

lint: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

docs: setup
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict

setup: .venv/synced

# not 3.13, where xtcocotools cannot be built
PYTHON_VERSION ?= >=3.11.5,<3.13

.venv/synced: pyproject.toml | $(UV)
	$(UV) sync --python '$(PYTHON_VERSION)'
	touch $@

# if uv is missing, install it inside the project
.tools/bin/uv:
	python3 -m venv .tools
	.tools/bin/python -m pip install --quiet uv
