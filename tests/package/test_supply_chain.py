"""What the package is made of is named; and 'not looked up' is never 'well'. Pins and hashes: tests/unit/architecture."""

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
from local.package import PACKAGES, ROOT, runs_here
from local.supply_chain import (
    Audit,
    SupplyChainError,
    audit_of,
    describes,
    hold_against_pins,
    pinned,
    sbom,
)
from tests.support.installed import link


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not runs_here():
        pytest.skip("the package is for another machine")
    folder = tmp_path_factory.mktemp("sbom")
    (folder / "a.zip").write_bytes(b"a zip")
    for name in pinned():
        for file in distribution(name).files or ():
            if describes(str(file)):
                link(Path(str(file.locate())), folder / PACKAGES / file)
    sbom(
        folder / PACKAGES, folder / "a.zip", folder / "bill.json", validate=False
    )  # the long tests validate
    return dict(json.loads((folder / "bill.json").read_text(encoding="utf-8")))


def test_the_bill_names_every_package_that_is_deployed_and_no_other(bill: dict[str, Any]) -> None:
    assert (
        bill["bomFormat"] == "CycloneDX"
        and bill["metadata"]["component"]["name"] == "partner-billing-export"
    )
    named = {component["name"].lower(): component for component in bill["components"]}
    assert len(named) == len(bill["components"]) == len(pinned())
    assert named["httpx"]["purl"] == f"pkg:pypi/httpx@{pinned()['httpx']}"
    licensed = [name for name, component in named.items() if component.get("licenses")]
    assert len(licensed) > 0.9 * len(named)
    graph = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    assert any("httpcore" in ref for ref in graph[named["httpx"]["bom-ref"]])
    assert str(ROOT) not in json.dumps(bill)


def test_the_bill_says_of_which_zip_it_is(bill: dict[str, Any]) -> None:
    assert bill["metadata"]["component"]["hashes"] == [
        {"alg": "SHA-256", "content": hashlib.sha256(b"a zip").hexdigest()}
    ]


@pytest.mark.parametrize("change", ["other version", "missing", "foreign"])
def test_a_bill_of_other_things_than_the_pins_is_refused(change: str) -> None:
    components = [{"name": name, "version": version} for name, version in pinned().items()]
    hold_against_pins({"components": components})
    if change == "other version":
        components[0]["version"] = "0"
    elif change == "missing":
        components.pop()
    else:
        components.append({"name": "stowaway", "version": "1"})
    with pytest.raises(SupplyChainError, match="make package"):
        hold_against_pins({"components": components})


def answer(**changed: dict[str, Any]) -> dict[str, Any]:
    return {
        "dependencies": [
            {"name": name, "version": version, "vulns": []} | changed.get(name, {})
            for name, version in pinned().items()
        ]
    }


def test_all_looked_up_and_well() -> None:
    found = audit_of(answer())
    assert found == Audit(len(pinned()), (), ()) and found.exit_code == 0
    assert str(found) == f"{len(pinned())} packages were looked up; none has a known vulnerability."


def test_a_vulnerability_is_named_with_the_version_that_mends_it() -> None:
    found = audit_of(answer(httpx={"vulns": [{"id": "PYSEC-1", "fix_versions": ["9.9"]}]}))
    assert (
        found.exit_code == 1 and str(found) == f"httpx {pinned()['httpx']}: PYSEC-1, mended in 9.9"
    )


def test_what_could_not_be_looked_up_is_not_well() -> None:
    """pip-audit itself ends with 0 and 'No known vulnerabilities found' here."""
    skipped = {"dependencies": [{"name": name, "skip_reason": "not found"} for name in pinned()]}
    found = audit_of(skipped)
    assert found.exit_code == 3
    assert (
        str(found)
        == f"None of {len(pinned())} packages could be looked up: this needs https://pypi.org."
    )
    one = audit_of({"dependencies": answer()["dependencies"][1:]})
    assert one.exit_code == 3 and one.unknown == (next(iter(pinned())),)
    assert str(one).endswith(f"Not looked up: {one.unknown[0]}.")


def test_without_network_it_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = subprocess.run

    def offline(command: list[str], **options: Any) -> Any:
        dead = {
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
            "NO_PROXY": "",
            "no_proxy": "",
        }
        return real(command, **options, env={**os.environ, **dead})

    monkeypatch.setattr(supply_chain.subprocess, "run", offline)
    assert supply_chain.main(["audit"]) == 3
    said = capsys.readouterr()
    assert (
        not said.out
        and len(said.err.splitlines()) == 1
        and "https://pypi.org" in said.err
        and "Traceback" not in said.err
    )


def test_the_commands_are_those_of_the_makefile() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local.supply_chain", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "{sbom,audit}" in done.stdout
