"""Defines the schema of the state database, opens the database, and describes its errors."""

import sqlite3
from pathlib import Path

from .errors import HostError

SCHEMA_VERSION = 1
LOCK_TIMEOUT_SECONDS = 5.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS instances(
  iid TEXT PRIMARY KEY, eid TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
  status TEXT NOT NULL, input TEXT, output TEXT, custom_status TEXT, created INTEGER NOT NULL,
  updated INTEGER NOT NULL, parent_iid TEXT, parent_eid TEXT, parent_task INTEGER);
CREATE TABLE IF NOT EXISTS history(
  iid TEXT NOT NULL, eid TEXT NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY(iid, eid, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inbox(
  id INTEGER PRIMARY KEY AUTOINCREMENT, iid TEXT NOT NULL, eid TEXT, due INTEGER NOT NULL,
  arrival INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS inbox_by_instance ON inbox(iid, due);
CREATE INDEX IF NOT EXISTS inbox_by_due ON inbox(due);
CREATE TABLE IF NOT EXISTS work(
  id INTEGER PRIMARY KEY AUTOINCREMENT, iid TEXT NOT NULL, eid TEXT NOT NULL,
  task INTEGER NOT NULL, name TEXT NOT NULL, input TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS schedules(name TEXT PRIMARY KEY, last INTEGER, next INTEGER);
"""


def open_database(path: Path | None) -> sqlite3.Connection:
    """Open the state database and create its tables if they do not exist.

    Args:
        path: The database file; None opens a database in memory.

    Raises:
        HostError: The file is not a database, is damaged, cannot be accessed, or was written by
            another version of the host.
    """
    db = sqlite3.connect(
        path or ":memory:",
        check_same_thread=False,
        isolation_level=None,
        timeout=LOCK_TIMEOUT_SECONDS,
    )
    try:
        _prepare(db, path)
    except sqlite3.Error as error:
        db.close()
        raise HostError(database_error_text(path, error)) from None
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path | None) -> None:
    if (problem := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(str(problem).splitlines()[-1])
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA.split(";"):
        db.execute(statement)
    schema_version = db.execute("PRAGMA user_version").fetchone()[0]
    if schema_version not in (0, SCHEMA_VERSION):
        raise HostError(
            f"The state database {path} was written by another version of the host "
            f"(schema {schema_version}). {describe_state_reset(path)}"
        )
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    db.execute("COMMIT")


def describe_state_reset(path: Path | None) -> str:
    """Return a sentence with the shell commands that move the database aside."""
    return (
        "To keep a copy and start with an empty database, run: "
        f"mv {path} {path}.old; rm -f {path}-wal {path}-shm"
    )


def database_error_text(path: Path | None, error: sqlite3.Error) -> str:
    """Return one line that states what is wrong with the database and how to fix it."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"The state database {path} is damaged ({error}). {describe_state_reset(path)}"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return (
            f"The state database {path} is locked by another program. No data is lost. "
            "Stop that program and start the host again."
        )
    return (
        f"The state database {path} cannot be written ({error}). No data is lost. "
        "Free some disk space and start the host again."
    )
