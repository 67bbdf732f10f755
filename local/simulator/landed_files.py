"""Finds exports among files, and reads their lines. Knows the landing's layout and nothing of how it was filled.

    data/billed_usage/invoice_id=G016907411/attribute_set=full/version=20261108T093700Z-3f9a1c20/part-0....json.gz

Of several versions the one counts that the catalogue's `latest.json` names, else the newest with a `_manifest.json`, else
the newest. A folder without `version=` is one version.
"""

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

DATA = re.compile(
    r"(?:^|/)(?P<state>billed|unbilled)_(?P<family>usage|reconciliation)/(?P<scope>.+?)/attribute_set=(?P<attribute_set>\w+)"
    r"(?:/version=(?P<version>[^/]+))?/(?P<name>.+)$"
)
Files = Mapping[str, Callable[[], bytes]]  # path -> its bytes, read when asked for


class UnreadableFileError(Exception):
    """A file that is not gzip or JSON to its end. Names the file, never its content."""


@dataclass(frozen=True)
class LandedExport:
    """One version of one export key."""

    state: str
    family: str
    scope: str  # "G016907411" or "2026-11/USD"
    attribute_set: str
    version: str
    files: Files = field(repr=False, compare=False, hash=False)  # only those with lines
    invoice_total: Decimal | None = None

    def __str__(self) -> str:
        return f"{self.state}_{self.family}/{self.scope}/{self.attribute_set}"


def files_of_folder(folder: Path) -> Files:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def files_of_container(connection_string: str, container: str, prefix: str) -> Files:
    from azure.storage.blob import ContainerClient

    with ContainerClient.from_connection_string(connection_string, container) as client:
        names = sorted(
            str(blob) for blob in client.list_blob_names(name_starts_with=prefix or None)
        )

    def read(name: str) -> bytes:
        with ContainerClient.from_connection_string(connection_string, container) as client:
            return client.download_blob(name, decompress=False).readall()

    return {name: partial(read, name) for name in names}


def exports_in(files: Files) -> Iterator[LandedExport]:
    """Every key once, in the version that counts."""
    found: dict[tuple[str, str, str, str], dict[str, dict[str, Callable[[], bytes]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    latest: dict[tuple[str, str, str, str], str] = {}
    for path, read in files.items():
        if not (part := DATA.search(path)):
            continue
        key: tuple[str, str, str, str] = (
            part["state"],
            part["family"],
            _scope(part["scope"]),
            part["attribute_set"],
        )
        if part["name"] == "latest.json" and not part["version"]:
            latest[key] = str(json.loads(read())["version"])
        else:
            found[key][part["version"] or ""][part["name"]] = read
    for key, versions in sorted(found.items()):
        version = _version_that_counts(versions, latest.get(key))
        inside = versions[version]
        lines = {
            name: read
            for name, read in inside.items()
            if not any(each[0] in "_." for each in name.split("/"))
        }
        yield LandedExport(
            *key,
            version=version,
            files=lines,
            invoice_total=_invoice_total(inside.get("_manifest.json")),
        )


def _scope(path: str) -> str:
    """`billing_month=2026-11/currency_code=USD` -> `2026-11/USD`"""
    return "/".join(part.partition("=")[2] or part for part in path.split("/"))


def _version_that_counts(versions: Mapping[str, Mapping[str, Any]], latest: str | None) -> str:
    if latest is not None and latest in versions:
        return latest
    proven = [version for version, inside in versions.items() if "_manifest.json" in inside]
    return max(proven or versions)


def _invoice_total(read: Callable[[], bytes] | None) -> Decimal | None:
    """Of the invoice as the marker tells it, where it does."""
    if read is None:
        return None
    invoice = json.loads(read(), parse_float=Decimal).get("invoice")
    total = invoice.get("total") if isinstance(invoice, dict) else None
    return None if total is None else Decimal(str(total))


def lines_of(export: LandedExport) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line as (where it stands, its members with names in lower case, numbers as Decimal). Raises UnreadableFileError."""
    for name, read in export.files.items():
        content = read()
        try:
            text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        except (OSError, EOFError):
            raise UnreadableFileError(f"{export}: {name}: not gzip to its end") from None
        for number, line in enumerate(text.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
            if not line.strip():
                continue
            try:
                members = json.loads(line, parse_float=Decimal, parse_int=Decimal)
            except ValueError:
                raise UnreadableFileError(f"{export}: {name} line {number}: not JSON") from None
            yield f"{name} line {number}", {key.lower(): value for key, value in members.items()}
