"""Confirms that the data of an unbilled export belongs to the month of its key.

A request names the current or the last month, and around the end of a month Microsoft can return
the data of another one. The root directory confirms the month. If it names none, the lines do: the
newest date must be in the month. Data that has landed for the previous month refutes it.
"""

from collections.abc import Iterable
from dataclasses import replace

from shared.exports import ExportKey, Family, MonthScope
from shared.ledger.ledger import Ledger
from shared.lines.newest_date import NO_DATE, UNREADABLE_DATE
from shared.manifest import DifferentMonthError, billing_month

# Usage: the day of use. Reconciliation: the date of the billing event.
DATE_MEMBERS = {Family.USAGE: "UsageDate", Family.RECONCILIATION: "OrderDate"}


def get_date_member(key: ExportKey, root_directory: str) -> str:
    """Return the member of the lines whose dates must confirm the month, or "" if none must."""
    if not isinstance(key.scope, MonthScope) or billing_month(root_directory) is not None:
        return ""
    return DATE_MEMBERS[key.dataset.family]


async def verify_not_previous_month(ledger: Ledger, key: ExportKey, manifest_etag: str) -> None:
    """Raise DifferentMonthError if the data has landed for the month before that of the key."""
    if not isinstance(key.scope, MonthScope):
        return
    previous = replace(key, scope=replace(key.scope, month=key.scope.month.previous()))
    async for version in ledger.versions.list_by_key(previous):
        if version.manifest_etag == manifest_etag and version.landed_at:
            raise DifferentMonthError


def verify_month(key: ExportKey, root_directory: str, newest_dates: Iterable[str]) -> None:
    """Raise DifferentMonthError unless the month of the key is confirmed.

    `newest_dates` are those of the blobs. The lines of each blob must have been read, and all of
    their dates must be readable.
    """
    if not isinstance(key.scope, MonthScope) or not get_date_member(key, root_directory):
        return
    dates = {*newest_dates} - {NO_DATE}
    is_known = bool(dates) and not dates & {"", UNREADABLE_DATE}
    if not is_known or not max(dates).startswith(f"{key.scope.month}-"):
        raise DifferentMonthError
