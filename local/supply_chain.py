"""What the deployed package is made of, and whether any of it is known to be vulnerable.

    python -m local.supply_chain sbom       dist/partner-billing-export.cdx.json: CycloneDX, of the zip that `make package` made
    python -m local.supply_chain audit      asks the vulnerability database of PyPI about every pin of requirements.txt

`audit` needs the network and says so where there is none: a package that could not be looked up is never called well.
Exit codes: 0 all are known and well; 1 something is vulnerable; 3 not all could be asked about.
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
VULNERABLE, NOT_ASKED = 1, 3


class SupplyChainError(Exception):
    """The text says why and what to do."""


# -- what it is made of -------------------------------------------------------


def sbom(packages: Path, archive: Path, output: Path, *, validate: bool = True) -> None:
    """The bill of materials of one package: its folder of dependencies, and the zip that holds them.

    `validate` holds it against CycloneDX's schema, which takes ten seconds.
    """
    done = subprocess.run(
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
        },  # with -S the only folder that has packages
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SupplyChainError(
            f"cyclonedx-py could not read {packages}:\n{done.stderr.strip()[-2000:]}"
        )
    bill = json.loads(done.stdout)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    bill["metadata"]["component"]["hashes"] = [{"alg": "SHA-256", "content": digest}]
    hold_against_pins(bill)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def hold_against_pins(bill: dict[str, Any]) -> None:
    """A bill that names other things than requirements.txt pins is worth nothing."""
    named = {
        component["name"].lower().replace("_", "-"): component["version"]
        for component in bill["components"]
    }
    pins = pinned()
    if named != pins:
        different = sorted(
            name for name in named.keys() | pins.keys() if named.get(name) != pins.get(name)
        )
        raise SupplyChainError(
            f"The package has not what {REQUIREMENTS} pins ({', '.join(different)}): make package"
        )


def pinned() -> dict[str, str]:
    return dict(PINNED.findall((ROOT / REQUIREMENTS).read_text(encoding="utf-8")))


def describes(name: str) -> bool:
    """Whether a file says what a package is. RECORD only says which files it has: tens of thousands, and read for each bill."""
    return ".dist-info/" in name and not name.endswith("/RECORD")


def sbom_of_the_zip() -> None:
    if not ARCHIVE.is_file():
        raise SupplyChainError(f"{display_path(ARCHIVE)} is not there: make package")
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(ARCHIVE) as packed:
        packed.extractall(folder, [name for name in packed.namelist() if describes(name)])
        sbom(Path(folder) / PACKAGES, ARCHIVE, SBOM)
    print(f"{display_path(SBOM)}: {len(pinned())} packages")


# -- whether it is known to be vulnerable -------------------------------------


@dataclass(frozen=True)
class Audit:
    """What the database said. `asked` counts the packages that it knows."""

    asked: int
    unknown: tuple[str, ...]
    found: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        return VULNERABLE if self.found else NOT_ASKED if self.unknown else 0

    def __str__(self) -> str:
        lines = [*self.found]
        if self.unknown:
            whose = f"Only {self.asked}" if self.asked else "None"
            lines.append(
                f"{whose} of {self.asked + len(self.unknown)} packages could be looked up: this needs https://pypi.org."
            )
            lines += [f"Not looked up: {', '.join(self.unknown)}."] if self.asked else []
        elif not self.found:
            lines.append(f"{self.asked} packages were looked up; none has a known vulnerability.")
        return "\n".join(lines)


def audit_of(answer: dict[str, Any]) -> Audit:
    """pip-audit's own verdict is 'no known vulnerabilities' where it could look up nothing: so its list is read instead."""
    packages = answer["dependencies"]
    missing = pinned().keys() - {one["name"].lower().replace("_", "-") for one in packages}
    found = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in packages
        for flaw in one.get("vulns", ())
    ]
    unknown = [one["name"] for one in packages if "skip_reason" in one] + sorted(missing)
    return Audit(len(packages) + len(missing) - len(unknown), tuple(unknown), tuple(found))


def audit() -> Audit:
    done = subprocess.run(
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
        return audit_of(json.loads(done.stdout))
    except json.JSONDecodeError:  # it answers in words where it cannot connect at all
        said = done.stderr.strip().splitlines()
        raise SupplyChainError(
            f"pip-audit could not ask https://pypi.org, which it needs: {said[-1][:300] if said else 'no reason'}."
        ) from None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m local.supply_chain", description="What is deployed, and is it well?"
    )
    parser.add_argument("what", choices=("sbom", "audit"))
    try:
        if parser.parse_args(arguments).what == "sbom":
            sbom_of_the_zip()
            return 0
        found = audit()
        print(found, file=sys.stderr if found.exit_code else sys.stdout)
        return found.exit_code
    except SupplyChainError as failed:
        print(failed, file=sys.stderr)
        return NOT_ASKED


if __name__ == "__main__":
    sys.exit(main())
