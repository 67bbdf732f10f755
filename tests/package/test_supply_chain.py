"""The bill of materials and the audit of the package.

tests/unit/architecture contains the tests for the pinned versions and hashes.
"""

import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from local import supply_chain
from local.package import PACKAGES, ROOT, can_run_package
from local.supply_chain import (
    Audit,
    SupplyChainError,
    is_metadata,
    parse_audit,
    read_pins,
    verify_pins,
    write_sbom,
)
from tests.support.installed import link


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not can_run_package():
        pytest.skip("this machine cannot run the package")
    folder = tmp_path_factory.mktemp("sbom")
    (folder / "a.zip").write_bytes(b"a zip")
    for name in read_pins():
        for file in distribution(name).files or ():
            if is_metadata(str(file)):
                link(Path(str(file.locate())), folder / PACKAGES / file)
    write_sbom(
        folder / PACKAGES, folder / "a.zip", folder / "bill.json", validate=False
    )  # a test marked "long" validates it
    return dict(json.loads((folder / "bill.json").read_text(encoding="utf-8")))


def test_write_sbom_lists_exactly_the_pinned_packages(bill: dict[str, Any]) -> None:
    assert (
        bill["bomFormat"] == "CycloneDX"
        and bill["metadata"]["component"]["name"] == "partner-billing-export"
    )
    listed = {component["name"].lower(): component for component in bill["components"]}
    assert sorted(
        component["name"].lower().replace("_", "-") for component in bill["components"]
    ) == sorted(read_pins())
    assert listed["httpx"]["purl"] == f"pkg:pypi/httpx@{read_pins()['httpx']}"
    licensed = [name for name, component in listed.items() if component.get("licenses")]
    assert len(licensed) > 0.9 * len(listed)
    graph = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    assert any("httpcore" in ref for ref in graph[listed["httpx"]["bom-ref"]])
    assert str(ROOT) not in json.dumps(bill)


def test_write_sbom_contains_hash_of_zip(bill: dict[str, Any]) -> None:
    assert bill["metadata"]["component"]["hashes"] == [
        {"alg": "SHA-256", "content": hashlib.sha256(b"a zip").hexdigest()}
    ]


@pytest.mark.parametrize("change", ["other version", "missing", "foreign"])
def test_verify_pins_different_components_raises(change: str) -> None:
    components = [{"name": name, "version": version} for name, version in read_pins().items()]
    verify_pins({"components": components})
    if change == "other version":
        components[0]["version"] = "0"
    elif change == "missing":
        components.pop()
    else:
        components.append({"name": "stowaway", "version": "1"})
    with pytest.raises(SupplyChainError, match="make package"):
        verify_pins({"components": components})


def audit_report(**changed: dict[str, Any]) -> dict[str, Any]:
    """Return a pip-audit report without vulnerabilities, with the given changes to its entries."""
    return {
        "dependencies": [
            {"name": name, "version": version, "vulns": []} | changed.get(name, {})
            for name, version in read_pins().items()
        ]
    }


def test_parse_audit_without_vulnerabilities_returns_zero() -> None:
    result = parse_audit(audit_report())
    assert result == Audit(len(read_pins()), (), ()) and result.exit_code == 0
    assert (
        str(result) == f"{len(read_pins())} packages were checked. None has a known vulnerability."
    )


def test_parse_audit_vulnerability_names_fixed_version() -> None:
    result = parse_audit(
        audit_report(httpx={"vulns": [{"id": "PYSEC-1", "fix_versions": ["9.9"]}]})
    )
    assert (
        result.exit_code == 1
        and str(result) == f"httpx {read_pins()['httpx']}: PYSEC-1, fixed in 9.9"
    )


def test_parse_audit_unchecked_package_is_incomplete() -> None:
    """pip-audit itself exits with 0 and "No known vulnerabilities found" in this case."""
    skipped = {"dependencies": [{"name": name, "skip_reason": "not found"} for name in read_pins()]}
    result = parse_audit(skipped)
    assert result.exit_code == 3
    assert (
        str(result) == f"0 of {len(read_pins())} packages were checked. "
        "The check requires access to https://pypi.org."
    )
    partial = parse_audit({"dependencies": audit_report()["dependencies"][1:]})
    assert partial.exit_code == 3 and partial.unchecked == (next(iter(read_pins())),)
    assert str(partial).endswith(f"Not checked: {partial.unchecked[0]}.")


def test_main_audit_without_network_reports_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = subprocess.run

    def offline(command: list[str], **options: Any) -> Any:
        unreachable_proxy = {
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
            "NO_PROXY": "",
            "no_proxy": "",
        }
        return real(command, **options, env={**os.environ, **unreachable_proxy})

    monkeypatch.setattr(supply_chain.subprocess, "run", offline)
    assert supply_chain.main(["audit"]) == 3
    output = capsys.readouterr()
    assert (
        not output.out
        and len(output.err.splitlines()) == 1
        and "https://pypi.org" in output.err
        and "Traceback" not in output.err
    )


def test_help_lists_the_commands_of_the_makefile() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "local.supply_chain", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "{sbom,audit}" in result.stdout
