"""Repository files for editors, CI and contributors can be parsed and refer to existing targets."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.test_documents import ROOT, targets

JSON_FILES = [
    ".devcontainer/devcontainer.json",
    ".vscode/extensions.json",
    ".vscode/launch.json",
    ".vscode/settings.json",
    ".vscode/tasks.json",
]
YAML_FILES = [
    ".github/ISSUE_TEMPLATE/bug_report.yml",
    ".github/ISSUE_TEMPLATE/feature_request.yml",
    ".github/dependabot.yml",
    ".github/workflows/ci.yml",
    ".pre-commit-config.yaml",
]
MAKE_COMMAND = re.compile(r"\bmake ([a-z][a-z-]*)")


def read_text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def read_file(path: str) -> Any:
    return (
        json.loads(read_text(path)) if path.endswith(".json") else yaml.safe_load(read_text(path))
    )


@pytest.mark.parametrize("path", JSON_FILES + YAML_FILES)
def test_repository_file_is_a_mapping(path: str) -> None:
    assert isinstance(read_file(path), dict)


@pytest.mark.parametrize("path", [*JSON_FILES, *YAML_FILES, ".github/pull_request_template.md"])
def test_repository_file_make_targets_exist(path: str) -> None:
    assert set(MAKE_COMMAND.findall(read_text(path))) <= targets()


def test_ci_workflow_runs_the_tests_on_each_supported_python_version() -> None:
    jobs = read_file(".github/workflows/ci.yml")["jobs"]
    supported = tomllib.loads(read_text("pyproject.toml"))["project"]["requires-python"]
    assert supported == ">=3.11,<3.13"
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    commands = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert commands == {"make test PYTHON=python", "make package PYTHON=python"}


def test_ci_workflow_pins_actions_by_tag() -> None:
    jobs = read_file(".github/workflows/ci.yml")["jobs"]
    actions = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+", action)] == []


def test_pre_commit_uses_the_locked_version_of_ruff() -> None:
    (repository,) = read_file(".pre-commit-config.yaml")["repos"]
    assert f"ruff=={repository['rev'].removeprefix('v')} \\" in read_text("requirements-dev.txt")


def test_dependabot_directories_contain_manifests() -> None:
    manifests = {"pip": "requirements.txt", "npm": "package.json", "github-actions": ".github"}
    updates = read_file(".github/dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == set(manifests)
    for update in updates:
        directory = Path(ROOT, update["directory"].lstrip("/"))
        assert (directory / manifests[update["package-ecosystem"]]).exists()


def test_vscode_launch_tasks_exist() -> None:
    tasks = read_file(".vscode/tasks.json")["tasks"]
    labels = {task["label"] for task in tasks}
    referenced = {label for task in tasks for label in task.get("dependsOn", [])}
    for configuration in read_file(".vscode/launch.json")["configurations"]:
        if "preLaunchTask" in configuration:
            referenced.add(configuration["preLaunchTask"])
    assert referenced <= labels
