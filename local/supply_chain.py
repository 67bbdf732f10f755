"""Lists the contents of the deployment package and checks them for known vulnerabilities.

    python -m local.supply_chain sbom     write dist/partner-billing-export.cdx.json: a CycloneDX
                                          bill of materials of the zip that `make package` built
    python -m local.supply_chain audit    look up every version pinned in requirements.txt in
                                          PyPI's vulnerability database; requires network access

Exit codes: 0 if no package has a known vulnerability, 1 if a package has one, 3 if a package could
not be looked up. A package that could not be looked up never counts as safe.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.azurite import ROOT
from local.package import ARCHIVE, PACKAGES, PINNED, REQUIREMENTS
from local.stack import display_path

SBOM = ARCHIVE.with_suffix(".cdx.json")
VULNERABLE, INCOMPLETE = 1, 3


class SupplyChainError(Exception):
    """The command failed. The message states why and what to do."""


# -- bill of materials --------------------------------------------------------


def write_sbom(packages: Path, archive: Path, output: Path, *, validate: bool = True) -> None:
    """Write the bill of materials of a package.

    Args:
        packages: The folder that contains the dependencies.
        archive: The zip that contains them.
        output: The file to write.
        validate: Whether to validate the result with the CycloneDX schema, which takes 10 s.

    Raises:
        SupplyChainError: The dependencies could not be read, or they differ from the pinned
            versions.
    """
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "cyclonedx_py",
            "environment",
            "-S",
            "--pyproject",
            str(ROOT / "pyproject.toml"),
            "--output-reproducible",
            "--output-format",
            "JSON",
            "--validate" if validate else "--no-validate",
            sys.executable,
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(packages),
        },  # -S removes all other folders with packages
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise SupplyChainError(
            f"cyclonedx-py could not read {packages}:\n{result.stderr.strip()[-2000:]}"
        )
    bill = json.loads(result.stdout)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    bill["metadata"]["component"]["hashes"] = [{"alg": "SHA-256", "content": digest}]
    verify_pins(bill)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def verify_pins(bill: dict[str, Any]) -> None:
    """Raise SupplyChainError unless the SBOM lists exactly the versions in requirements.txt."""
    listed = {
        component["name"].lower().replace("_", "-"): component["version"]
        for component in bill["components"]
    }
    pins = read_pins()
    if listed != pins:
        different = sorted(
            name for name in listed.keys() | pins.keys() if listed.get(name) != pins.get(name)
        )
        raise SupplyChainError(
            f"The package does not match {REQUIREMENTS} ({', '.join(different)}). "
            "Run `make package`."
        )


def read_pins() -> dict[str, str]:
    """Return the version of each package in requirements.txt."""
    return dict(PINNED.findall((ROOT / REQUIREMENTS).read_text(encoding="utf-8")))


def is_metadata(name: str) -> bool:
    """Return whether a file is needed to identify a package.

    RECORD is excluded: it only lists files, and cyclonedx-py would read tens of thousands.
    """
    return ".dist-info/" in name and not name.endswith("/RECORD")


def write_package_sbom() -> None:
    """Write the bill of materials of the built package."""
    if not ARCHIVE.is_file():
        raise SupplyChainError(f"{display_path(ARCHIVE)} does not exist. Run `make package`.")
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(ARCHIVE) as packed:
        packed.extractall(folder, [name for name in packed.namelist() if is_metadata(name)])
        write_sbom(Path(folder) / PACKAGES, ARCHIVE, SBOM)
    print(f"{display_path(SBOM)}: {len(read_pins())} packages")


# -- vulnerabilities ----------------------------------------------------------


@dataclass(frozen=True)
class Audit:
    """The result of the lookup. `checked` is the number of packages that the database contains."""

    checked: int
    unchecked: tuple[str, ...]
    vulnerabilities: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""
        return VULNERABLE if self.vulnerabilities else INCOMPLETE if self.unchecked else 0

    def __str__(self) -> str:
        lines = [*self.vulnerabilities]
        total = self.checked + len(self.unchecked)
        if self.unchecked:
            lines.append(
                f"{self.checked} of {total} packages were checked. "
                "The check requires access to https://pypi.org."
            )
            if self.checked:
                lines.append(f"Not checked: {', '.join(self.unchecked)}.")
        elif not self.vulnerabilities:
            lines.append(f"{self.checked} packages were checked. None has a known vulnerability.")
        return "\n".join(lines)


def parse_audit(report: dict[str, Any]) -> Audit:
    """Return the result, based on the list of packages in pip-audit's report.

    pip-audit's own summary is not used: it is "no known vulnerabilities" even if no package could
    be looked up.
    """
    packages = report["dependencies"]
    missing = read_pins().keys() - {
        package["name"].lower().replace("_", "-") for package in packages
    }
    vulnerabilities = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, "
        f"fixed in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in packages
        for vulnerability in package.get("vulns", ())
    ]
    unchecked = [package["name"] for package in packages if "skip_reason" in package]
    unchecked += sorted(missing)
    checked = len(packages) + len(missing) - len(unchecked)
    return Audit(checked, tuple(unchecked), tuple(vulnerabilities))


def audit() -> Audit:
    """Look up all pinned versions with pip-audit.

    Raises:
        SupplyChainError: pip-audit could not connect to the database.
    """
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip_audit",
            "--require-hashes",
            "--disable-pip",
            "--requirement",
            str(ROOT / REQUIREMENTS),
            "--format",
            "json",
            "--desc",
            "off",
            "--progress-spinner",
            "off",
            "--timeout",
            "15",
        ],
        capture_output=True,
        text=True,
    )
    try:
        return parse_audit(json.loads(result.stdout))
    except json.JSONDecodeError:  # without a connection, pip-audit writes no JSON
        lines = result.stderr.strip().splitlines()
        reason = lines[-1][:300] if lines else "unknown reason"
        raise SupplyChainError(
            f"pip-audit could not query https://pypi.org, which the audit requires: {reason}."
        ) from None


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m local.supply_chain",
        description="Lists or audits the packages that are deployed.",
    )
    parser.add_argument("command", choices=("sbom", "audit"))
    try:
        if parser.parse_args(arguments).command == "sbom":
            write_package_sbom()
            return 0
        result = audit()
        print(result, file=sys.stderr if result.exit_code else sys.stdout)
        return result.exit_code
    except SupplyChainError as error:
        print(error, file=sys.stderr)
        return INCOMPLETE


if __name__ == "__main__":
    sys.exit(main())
