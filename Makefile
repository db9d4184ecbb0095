# make demo        the main job on embedded data
# make test        all tests but the slow ones
# make test-slow   the slow ones
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
RUN := $(UV) run --no-sync

.PHONY: demo test test-slow lint setup

demo: setup
	$(RUN) xtask-reg demo

test: lint
	$(RUN) pytest -n auto --maxprocesses 4 -m "not slow"

test-slow: setup
	$(RUN) pytest -m slow

lint: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .

setup: .venv/synced

.venv/synced: pyproject.toml | $(UV)
	$(UV) sync
	touch $@

# where uv is missing it is put beside the project, nowhere else
.tools/bin/uv:
	python3 -m venv .tools
	.tools/bin/python -m pip install --quiet uv
