"""The SQLite database: instances, history, inbox, work and schedules.

Every public method is one transaction. The database needs no recovery after the process is killed:
uncommitted changes are rolled back, and unfinished work and unread messages remain for the next
start.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from .database import database_error_text, open_database
from .history import Event
from .records import LIVE, CommitResult, Filter, Instance, Message, NewInstance, Parent, Step, Work

_INSTANCE = (
    "iid, eid, name, version, status, input, output, custom_status, created, updated, "
    "parent_iid, parent_eid, parent_task"
)
_SELECT = f"SELECT {_INSTANCE} FROM instances"  # noqa: S608  # contains only column names
_DELETIONS = tuple(
    f"DELETE FROM {table} WHERE iid=?"  # noqa: S608  # contains only table names
    for table in ("instances", "history", "inbox", "work")
)


class StoreClosedError(Exception):
    """The store is closed. The changes were not written, as if the process had been killed."""


class Store:
    """The state database of a task hub. Thread-safe."""

    def __init__(
        self,
        path: Path | None,
        now: Callable[[], int],
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        """Open the database.

        Args:
            path: The database file. None keeps the data in memory.
            now: Returns the current time in microseconds since 1970.
            on_failure: Called once with the reason when the database can no longer be written.

        Raises:
            HostError: If the file is not a database, is damaged, or was written by an incompatible
                version of the host.
        """
        self._closed_because = "the host has stopped"
        self._path, self._now, self._on_failure, self._lock = (
            path,
            now,
            on_failure,
            threading.RLock(),
        )
        self._db: sqlite3.Connection | None = open_database(path)

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._db is None:
                raise StoreClosedError(self._closed_because)
            yield self._db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except sqlite3.Error as error:
                self._fail(db, error)
            except BaseException:
                db.execute("ROLLBACK")
                raise

    def _fail(self, db: sqlite3.Connection, error: sqlite3.Error) -> NoReturn:
        """Close the database. The file is consistent, but the state in memory might differ."""
        db.close()  # rolls back the open transaction
        self._db = None
        text = self._closed_because = database_error_text(self._path, error)
        if self._on_failure is not None:
            self._on_failure(text)
        raise StoreClosedError(text) from error

    # -- reading --------------------------------------------------------------

    def instance(self, instance_id: str) -> Instance | None:
        with self._reading() as db:
            row = db.execute(f"{_SELECT} WHERE iid=?", (instance_id,)).fetchone()
        return _instance(row) if row else None

    def instances(self, criteria: Filter, *, after: str = "", limit: int = -1) -> list[Instance]:
        """Return the instances with an ID greater than `after`, in the order of their IDs."""
        where, values = _where(criteria)
        with self._reading() as db:
            rows = db.execute(
                f"{_SELECT} WHERE {where} AND iid > ? ORDER BY iid LIMIT ?", (*values, after, limit)
            )
            return [_instance(row) for row in rows]

    def history(self, instance_id: str, execution_id: str) -> list[str]:
        """Return the events of an execution as JSON."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT body FROM history WHERE iid=? AND eid=? ORDER BY seq",
                (instance_id, execution_id),
            )
            return [body for (body,) in rows]

    def messages(self, instance_id: str, now: int) -> list[Message]:
        """Return the due messages in the order of arrival. A timer arrives when it is due."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT id, eid, due, body FROM inbox WHERE iid=? AND due<=? ORDER BY arrival, id",
                (instance_id, now),
            )
            return [
                Message(instance_id, eid, json.loads(body), due, row_id)
                for row_id, eid, due, body in rows
            ]

    def instances_with_messages(self) -> list[str]:
        """Return the IDs of instances with messages other than timers, oldest message first."""
        with self._reading() as db:
            return [
                iid
                for (iid,) in db.execute(
                    "SELECT iid FROM inbox WHERE due=0 GROUP BY iid ORDER BY MIN(arrival), MIN(id)"
                )
            ]

    def timers_due(self, now: int) -> list[str]:
        """Return the instance IDs of due timers in the order in which the timers are due."""
        with self._reading() as db:
            return [
                iid
                for (iid,) in db.execute(
                    "SELECT iid FROM inbox WHERE due>0 AND due<=? ORDER BY due, id", (now,)
                )
            ]

    def next_due(self, now: int) -> int | None:
        """Return when the next timer after `now` is due, or None."""
        with self._reading() as db:
            due: int | None = db.execute(
                "SELECT MIN(due) FROM inbox WHERE due>?", (now,)
            ).fetchone()[0]
        return due

    def unfinished_work(self) -> list[Work]:
        """Return the scheduled activities without a result."""
        with self._reading() as db:
            rows = db.execute("SELECT iid, eid, task, name, input, id FROM work ORDER BY id")
            return [Work(*row) for row in rows]

    # -- client commands ------------------------------------------------------

    def create(self, new: NewInstance) -> str | None:
        """Create an instance; replace a finished instance with the same ID.

        Returns:
            None, or the status of the live instance that already has this ID.
        """
        with self._transaction() as db:
            status = self._status(db, new.instance_id)
            if status in LIVE:
                return status
            self._create(db, new)
        return None

    def post(self, instance_id: str, event: Event, *, allowed: frozenset[str] = LIVE) -> str | None:
        """Add an event to the inbox if the status of the instance is one of `allowed`.

        Returns:
            The status of the instance, or None if it does not exist.
        """
        with self._transaction() as db:
            status = self._status(db, instance_id)
            if status in allowed:
                self._insert_message(db, Message(instance_id, None, event))
        return status

    def purge(self, instance_id: str) -> None:
        """Delete an instance with its history, messages and work."""
        with self._transaction() as db:
            self._delete(db, instance_id)

    def rewind(
        self, instance_id: str, execution_id: str, history: list[Event], message: Event
    ) -> None:
        """Replace the history of a failed instance and set its status to Running."""
        with self._transaction() as db:
            db.execute("DELETE FROM history WHERE iid=? AND eid=?", (instance_id, execution_id))
            self._append(db, instance_id, execution_id, [json.dumps(event) for event in history])
            db.execute(
                "UPDATE instances SET status='Running', output=NULL, updated=? WHERE iid=?",
                (self._now(), instance_id),
            )
            self._insert_message(db, Message(instance_id, execution_id, message))

    # -- the engine's writes --------------------------------------------------

    def commit_step(self, step: Step) -> CommitResult:
        """Write all changes that an episode made.

        Nothing is written if the instance no longer has the execution ID of the step.
        """
        iid, eid, now = step.instance.instance_id, step.instance.execution_id, self._now()
        with self._transaction() as db:
            db.executemany("DELETE FROM inbox WHERE id=?", [(row_id,) for row_id in step.consumed])
            current = db.execute("SELECT eid FROM instances WHERE iid=?", (iid,)).fetchone()
            if current is None or current[0] != eid:
                return CommitResult()
            if step.continued is not None:
                return self._commit_generation(db, step, step.continued)
            self._append(db, iid, eid, step.texts)
            db.execute(
                "UPDATE instances SET status=?, output=?, custom_status=?, updated=? WHERE iid=?",
                (step.status, step.output, step.custom_status, now, iid),
            )
            if step.status not in LIVE:
                db.execute("DELETE FROM inbox WHERE iid=?", (iid,))
            ready = []
            for message in [*step.messages, *self._create_children(db, step)]:
                self._insert_message(db, message)
                if message.due == 0:
                    ready.append(message.instance_id)
            work = [self._insert_work(db, item) for item in step.work]
        return CommitResult(
            work,
            ready + [child.instance_id for child in step.children],
            min((message.due for message in step.messages if message.due), default=None),
        )

    def finish_work(self, results: list[tuple[Work, Event]]) -> None:
        """Replace finished activities with messages that contain their results."""
        with self._transaction() as db:
            for work, event in results:
                db.execute("DELETE FROM work WHERE id=?", (work.id,))
                self._insert_message(db, Message(work.instance_id, work.execution_id, event))

    def delete_messages(self, row_ids: list[int]) -> None:
        """Delete rows from the inbox."""
        with self._transaction() as db:
            db.executemany("DELETE FROM inbox WHERE id=?", [(row_id,) for row_id in row_ids])

    # -- schedules ------------------------------------------------------------

    def schedule(self, name: str) -> tuple[int | None, int | None]:
        """Return the stored times of the last and the next run of a timer trigger."""
        with self._reading() as db:
            row = db.execute("SELECT last, next FROM schedules WHERE name=?", (name,)).fetchone()
        return (row[0], row[1]) if row else (None, None)

    def save_schedule(self, name: str, last: int | None, following: int | None) -> None:
        """Store the times of the last and the next run of a timer trigger."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO schedules(name, last, next) VALUES(?, ?, ?)",
                (name, last, following),
            )

    # -- parts of transactions ------------------------------------------------

    def _status(self, db: sqlite3.Connection, instance_id: str) -> str | None:
        row = db.execute("SELECT status FROM instances WHERE iid=?", (instance_id,)).fetchone()
        return str(row[0]) if row else None

    def _create(self, db: sqlite3.Connection, new: NewInstance) -> None:
        self._delete(db, new.instance_id)
        parent, now = new.parent, self._now()
        db.execute(
            f"INSERT INTO instances({_INSTANCE}) "
            "VALUES(?, ?, ?, ?, 'Pending', ?, NULL, NULL, ?, ?, ?, ?, ?)",
            (
                new.instance_id,
                new.execution_id,
                new.name,
                new.version,
                new.input,
                now,
                now,
                *(
                    (parent.instance_id, parent.execution_id, parent.task_id)
                    if parent
                    else (None, None, None)
                ),
            ),
        )
        self._insert_message(db, Message(new.instance_id, new.execution_id, new.started))

    def _create_children(self, db: sqlite3.Connection, step: Step) -> Iterator[Message]:
        for child in step.children:
            if self._status(db, child.instance_id) in LIVE:
                assert child.task_failure is not None
                yield Message(
                    step.instance.instance_id, step.instance.execution_id, child.task_failure
                )
            else:
                self._create(db, child)

    def _commit_generation(
        self, db: sqlite3.Connection, step: Step, new: NewInstance
    ) -> CommitResult:
        """Replace the execution after `continue_as_new`.

        The new execution has an empty history and a new ID. Client commands remain in the inbox;
        messages for the old execution are deleted.
        """
        iid, old = step.instance.instance_id, step.instance.execution_id
        db.execute("DELETE FROM history WHERE iid=? AND eid=?", (iid, old))
        db.execute("DELETE FROM inbox WHERE iid=? AND eid=?", (iid, old))
        db.execute(
            "UPDATE instances SET eid=?, input=?, custom_status=NULL, status='Running', updated=? "
            "WHERE iid=?",
            (new.execution_id, new.input, self._now(), iid),
        )
        self._insert_message(db, Message(iid, new.execution_id, new.started), first=True)
        for message in step.messages:
            self._insert_message(db, message, first=True)
        return CommitResult(ready=[iid])

    def _insert_message(
        self, db: sqlite3.Connection, message: Message, *, first: bool = False
    ) -> None:
        """Insert a message. If `first` is true, it precedes the existing messages.

        The start of a new generation and its carried-over events must come first.
        """
        arrival = 0 if first else message.due or self._now()
        db.execute(
            "INSERT INTO inbox(iid, eid, due, arrival, body) VALUES(?, ?, ?, ?, ?)",
            (
                message.instance_id,
                message.execution_id,
                message.due,
                arrival,
                json.dumps(message.event),
            ),
        )

    def _insert_work(self, db: sqlite3.Connection, work: Work) -> Work:
        row = (work.instance_id, work.execution_id, work.task_id, work.name, work.input)
        cursor = db.execute(
            "INSERT INTO work(iid, eid, task, name, input) VALUES(?, ?, ?, ?, ?)", row
        )
        return Work(*row, id=cursor.lastrowid or 0)

    def _append(
        self, db: sqlite3.Connection, instance_id: str, execution_id: str, texts: list[str]
    ) -> None:
        start = db.execute(
            "SELECT COALESCE(MAX(seq), -1) + 1 FROM history WHERE iid=? AND eid=?",
            (instance_id, execution_id),
        ).fetchone()[0]
        db.executemany(
            "INSERT INTO history(iid, eid, seq, body) VALUES(?, ?, ?, ?)",
            [
                (instance_id, execution_id, start + offset, text)
                for offset, text in enumerate(texts)
            ],
        )

    def _delete(self, db: sqlite3.Connection, instance_id: str) -> None:
        for statement in _DELETIONS:
            db.execute(statement, (instance_id,))


def _instance(row: Any) -> Instance:
    (
        iid,
        eid,
        name,
        version,
        status,
        input_json,
        output,
        custom_status,
        created,
        updated,
        parent_iid,
        parent_eid,
        parent_task,
    ) = row
    parent = Parent(parent_iid, parent_eid, parent_task) if parent_iid else None
    return Instance(
        iid, eid, name, version, status, input_json, output, custom_status, created, updated, parent
    )


def _where(criteria: Filter) -> tuple[str, list[str | int]]:
    clauses = ["substr(iid, 1, ?) = ?"]
    values: list[str | int] = [len(criteria.prefix), criteria.prefix]
    if criteria.created_from is not None:
        clauses.append("created >= ?")
        values.append(criteria.created_from)
    if criteria.created_to is not None:
        clauses.append("created <= ?")
        values.append(criteria.created_to)
    if criteria.statuses:
        clauses.append(f"status IN ({', '.join('?' * len(criteria.statuses))})")
        values.extend(sorted(criteria.statuses))
    return " AND ".join(clauses), values
