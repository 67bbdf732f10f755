"""Because of .funcignore, a deployment contains only the app."""

import subprocess
from pathlib import Path

import pathspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOYED = {
    "function_app.py",
    "host.json",
    "requirements.txt",
    "ncrontab",
    "triggers",
    "orchestrations",
    "activities",
    "shared",
}


def ignore_patterns() -> pathspec.PathSpec:
    """Return the patterns in .funcignore. Core Tools interprets them like those in .gitignore."""
    return pathspec.PathSpec.from_lines(
        "gitignore", (ROOT / ".funcignore").read_text(encoding="utf-8").splitlines()
    )


def test_funcignore_deploys_only_the_app() -> None:
    git_files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if git_files.returncode:
        pytest.skip("not a git checkout")
    patterns = ignore_patterns()
    deployed = {name for name in git_files.stdout.splitlines() if not patterns.match_file(name)}
    assert {name.split("/")[0] for name in deployed} <= DEPLOYED


@pytest.mark.parametrize(
    "name",
    [
        "function_app.py",
        "host.json",
        "requirements.txt",
        "triggers/schedule.py",
        "orchestrations/export_run.py",
        "activities/claim_run.py",
        "shared/settings.py",
        "shared/graph/client.py",
        ".python_packages/lib/site-packages/isal/__init__.py",
    ],
)
def test_funcignore_file_of_app_is_deployed(name: str) -> None:
    assert not ignore_patterns().match_file(name)


@pytest.mark.parametrize(
    "name",
    [
        "tests/unit/test_x.py",
        "local/host/server.py",
        "local/simulator/partner.py",
        "cli/setup.py",
        "bench/copy.py",
        "docs/settings.md",
        "infra/main.bicep",
        ".venv/bin/python",
        "local/node_modules/azurite/package.json",
        ".state/run/log",
        "local.settings.json",
        "local.settings.sample.json",
        ".env",
        ".git/config",
        ".gitignore",
        ".github/workflows/ci.yml",
        ".devcontainer/devcontainer.json",
        ".editorconfig",
        ".pre-commit-config.yaml",
        ".vscode/tasks.json",
        "LICENSE",
        "local/package.json",
        "local/package-lock.json",
        "local/requirements-worker.txt",
        "pyproject.toml",
        "Makefile",
        "README.md",
        "azure.yaml",
        ".azure/prod/.env",
        "requirements-dev.txt",
        ".ci/run",
        "shared/__pycache__/x.cpython-311.pyc",
        "shared/README.md",
    ],
)
def test_funcignore_other_file_is_not_deployed(name: str) -> None:
    assert ignore_patterns().match_file(name)
