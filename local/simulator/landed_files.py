"""Finds exports in files with the layout of the landing container, and reads their lines.

    data/billed_usage/invoice_id=G016907411/attribute_set=full/version=.../part-00000-....json.gz

If a key has several versions, the version in the catalogue's `latest.json` applies, otherwise the
newest with a `_manifest.json`, otherwise the newest. A folder without `version=` is one version.
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
    r"(?:^|/)(?P<state>billed|unbilled)_(?P<family>usage|reconciliation)/(?P<scope>.+?)"
    r"/attribute_set=(?P<attribute_set>\w+)"
    r"(?:/version=(?P<version>[^/]+))?/(?P<name>.+)$"
)
Files = Mapping[str, Callable[[], bytes]]  # path -> function that reads the file


class UnreadableFileError(Exception):
    """A file is not valid gzip or JSON. The message contains its name, but not its content."""


@dataclass(frozen=True)
class LandedExport:
    """One version of one export key."""

    state: str
    family: str
    scope: str  # "G016907411" or "2026-11/USD"
    attribute_set: str
    version: str
    files: Files = field(repr=False, compare=False, hash=False)  # only files with lines
    invoice_total: Decimal | None = None

    def __str__(self) -> str:
        return f"{self.state}_{self.family}/{self.scope}/{self.attribute_set}"


def files_of_folder(folder: Path) -> Files:
    """Return the files of a local folder."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def files_of_container(connection_string: str, container: str, prefix: str) -> Files:
    """Return the blobs of a container whose names start with a prefix."""
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
    """Return one export for each key: the version that applies."""
    files_by_key: dict[tuple[str, str, str, str], dict[str, dict[str, Callable[[], bytes]]]] = (
        defaultdict(lambda: defaultdict(dict))
    )
    latest: dict[tuple[str, str, str, str], str] = {}
    for path, read in files.items():
        if not (part := DATA.search(path)):
            continue
        key: tuple[str, str, str, str] = (
            part["state"],
            part["family"],
            _parse_scope(part["scope"]),
            part["attribute_set"],
        )
        if part["name"] == "latest.json" and not part["version"]:
            latest[key] = str(json.loads(read())["version"])
        else:
            files_by_key[key][part["version"] or ""][part["name"]] = read
    for key, versions in sorted(files_by_key.items()):
        version = _applicable_version(versions, latest.get(key))
        blobs = versions[version]
        lines = {
            name: read
            for name, read in blobs.items()
            if not any(each[0] in "_." for each in name.split("/"))
        }
        yield LandedExport(
            *key,
            version=version,
            files=lines,
            invoice_total=_invoice_total(blobs.get("_manifest.json")),
        )


def _parse_scope(path: str) -> str:
    """Return `2026-11/USD` for `billing_month=2026-11/currency_code=USD`."""
    return "/".join(part.partition("=")[2] or part for part in path.split("/"))


def _applicable_version(versions: Mapping[str, Mapping[str, Any]], latest: str | None) -> str:
    if latest is not None and latest in versions:
        return latest
    complete = [version for version, blobs in versions.items() if "_manifest.json" in blobs]
    return max(complete or versions)


def _invoice_total(read: Callable[[], bytes] | None) -> Decimal | None:
    """Return the invoice total from a completion marker, if it contains one."""
    if read is None:
        return None
    invoice = json.loads(read(), parse_float=Decimal).get("invoice")
    total = invoice.get("total") if isinstance(invoice, dict) else None
    return None if total is None else Decimal(str(total))


def lines_of(export: LandedExport) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the position and the members of each line.

    The names are in lower case and numbers are Decimals. Raises UnreadableFileError if a file is
    not valid.
    """
    for name, read in export.files.items():
        content = read()
        try:
            text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        except (OSError, EOFError):
            raise UnreadableFileError(f"{export}: {name} is not valid gzip") from None
        for number, line in enumerate(text.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
            if not line.strip():
                continue
            try:
                members = json.loads(line, parse_float=Decimal, parse_int=Decimal)
            except ValueError:
                raise UnreadableFileError(
                    f"{export}: {name} line {number} is not valid JSON"
                ) from None
            yield f"{name} line {number}", {key.lower(): value for key, value in members.items()}
