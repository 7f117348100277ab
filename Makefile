# iad_nb: `make quickstart` shows what it does, `make test` proves it. `make help` lists the rest.
SHELL   := /bin/bash
VENV    ?= .venv
BIN     := $(VENV)/bin
# the first Python that is supported; override with PY=...
PY      ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3,10) <= sys.version_info[:2] <= (3,13))' 2>/dev/null && { echo $$p; break; }; done)
PIP_ARGS ?=
READY   := $(VENV)/.ready
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help quickstart test check lab demo docs readme export clean notebooks pytest slow

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): constraints.txt settings.ini setup.py
	@[ -n "$(PY)" ] || { echo "No Python 3.10-3.13 found. Install one, or name it: make PY=/path/to/python quickstart"; exit 2; }
	@[ -d $(VENV) ] || { echo "Making $(VENV) with $(PY)"; $(PY) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian and Ubuntu: apt install python3-venv"; exit 2; }; }
	@echo "Installing pinned packages (a few minutes and about 2.5 GB the first time) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -c constraints.txt torch
	@$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	@touch $@

quickstart: $(READY) ## install, then inspect the embedded data with the shipped model and write a report
	@mkdir -p _runs/quickstart
	@$(BIN)/papermill --log-level WARNING --progress-bar -k python3 tutorials/t01_quickstart.ipynb _runs/quickstart/t01_quickstart.ipynb -p out "$(CURDIR)/_runs/quickstart"
	@$(BIN)/jupyter nbconvert --log-level WARN --to html _runs/quickstart/t01_quickstart.ipynb
	@echo; echo "Done. The executed notebook:  _runs/quickstart/t01_quickstart.ipynb"; echo "The same as a page:           _runs/quickstart/t01_quickstart.html"; echo "The inspection report:        _runs/quickstart/report.html"

test: $(READY) ## everything: the fast check, all notebooks, all process tests
	@$(BIN)/python tools/test.py

check: $(READY) ## the fast check: notebooks clean and exported, README in step, order, sizes
	@$(BIN)/python tools/check.py

notebooks: $(READY) ## only the notebooks' tests
	@$(BIN)/python tools/test.py --only notebooks

slow: $(READY) ## the long tests as well
	@$(BIN)/python tools/test.py --slow

lab: $(READY) ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --ip 127.0.0.1

export: $(READY) ## notebooks -> library, README, licences
	@$(BIN)/nbdev_export && $(BIN)/nbdev_clean && $(BIN)/python tools/readme.py && $(BIN)/python tools/licences.py

docs: $(READY) ## the documentation as pages in _docs/, without Quarto
	@$(BIN)/python tools/site.py

demo: $(READY) ## the systems in a browser, at http://127.0.0.1:7860
	@$(BIN)/iad demo

readme: $(READY) ## README.md from nbs/index.ipynb
	@$(BIN)/python tools/readme.py

clean: ## remove runs and caches (keeps the environment)
	rm -rf _runs _proc _docs build dist *.egg-info .pytest_cache
