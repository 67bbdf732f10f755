"""A deployment ships the app and nothing else."""

import subprocess
from pathlib import Path

import pathspec
import pytest

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = {
    "function_app.py",
    "host.json",
    "requirements.txt",
    "triggers",
    "orchestrations",
    "activities",
    "shared",
}


def ignored() -> pathspec.PathSpec:
    """The patterns of .funcignore, read as Core Tools reads them: those of .gitignore."""
    return pathspec.PathSpec.from_lines(
        "gitignore", (ROOT / ".funcignore").read_text(encoding="utf-8").splitlines()
    )


def test_every_file_of_the_project_is_shipped_only_if_the_app_needs_it() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    spec = ignored()
    shipped = {name for name in listed.stdout.splitlines() if not spec.match_file(name)}
    assert {name.split("/")[0] for name in shipped} <= SHIPPED


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
def test_what_the_app_needs_is_shipped(name: str) -> None:
    assert not ignored().match_file(name)


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
        "node_modules/azurite/package.json",
        ".state/run/log",
        "local.settings.json",
        "local.settings.sample.json",
        ".env",
        ".git/config",
        ".gitignore",
        "package.json",
        "package-lock.json",
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
def test_nothing_else_is(name: str) -> None:
    assert ignored().match_file(name)
