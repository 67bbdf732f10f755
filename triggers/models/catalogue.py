"""The catalogue: the newest version of every export key."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from shared.errors import get_remedy
from shared.exports import ExportKey
from shared.invoices import Invoice
from shared.landing.documents import get_key_members
from shared.ledger.catalogue import CatalogueEntry
from shared.planning.due import finality
from shared.tie_out.comparison import compare_stored
from triggers.models.base import (
    CodeFields,
    Count,
    DatasetParameter,
    KeyFields,
    MonthParameter,
    OptionalMonth,
    OptionalOutcome,
    OptionalText,
    OptionalTimestamp,
    ResponseModel,
    Timestamp,
    explain,
)
from triggers.models.lists import ListQuery, NextToken


class CatalogueQuery(ListQuery):
    """The filters of the catalogue."""

    dataset: DatasetParameter | None = Field(
        default=None, description="Filter by dataset. Default: all datasets."
    )
    billing_month: MonthParameter | None = Field(
        default=None, description="Filter by billing month."
    )


class Damage(CodeFields):
    """A landed version whose blobs were changed or deleted afterwards."""

    version: str
    damaged_at: Timestamp = Field(description="When the damage was found.")


class CatalogueEntryResponse(KeyFields):
    """The newest version of an export key, and the result of its newest run."""

    billing_month: OptionalMonth = Field(description="null if unknown.")
    version: OptionalText = Field(description="null if no data has landed yet.")
    path: OptionalText
    etag: OptionalText = Field(description="Microsoft's ETag, which identifies the version.")
    created_at: OptionalTimestamp = Field(description="When Microsoft created the data.")
    first_seen: OptionalTimestamp
    landed_at: OptionalTimestamp
    blobs: Count
    bytes: Count
    rows: Annotated[int, Field(ge=0)] | None = Field(
        description="null if the proof mode `transfer` did not count them."
    )
    settles_on: Annotated[
        OptionalText,
        Field(
            json_schema_extra={"format": "date"},
            description="Date from which the data count as final.",
        ),
    ]
    finality: Literal["open", "provisional", "final"] = Field(
        description="open: unbilled; provisional: Microsoft can restate the data."
    )
    tie_out: dict[str, Any] | None = Field(
        description="Comparison of the sum of the lines with the newest total of the invoice: "
        "tied_out, off_by or no_total."
    )
    damage: Damage | None = Field(
        description="The newest landed version, if it is damaged. `version` is then the newest one "
        "that readers can use."
    )
    last_outcome: OptionalOutcome = Field(description="Outcome of the newest run that ended.")
    last_code: OptionalText
    last_remedy: OptionalText
    last_run_id: OptionalText
    last_ended_at: OptionalTimestamp

    @classmethod
    def from_row(
        cls, entry: CatalogueEntry, now: datetime, invoices: Mapping[str, Invoice]
    ) -> Self:
        """Return the response for a catalogue row. `invoices` are the listed ones, by ID."""
        key = ExportKey.parse(entry.key)
        values = {name: getattr(entry, name) for name in _ROW_FIELDS}
        return cls.model_validate(
            {
                **values,
                **get_key_members(key),
                "billing_month": entry.billing_month,
                "etag": entry.manifest_etag,
                "rows": entry.known_rows,
                "finality": finality(key, entry.settles_on, now),
                "tie_out": compare_stored(entry.sums, invoices.get(entry.invoice_id)),
                "damage": _get_damage(entry),
                "last_remedy": get_remedy(entry.last_code) if entry.last_code else None,
            }
        )


_COMPUTED_FIELDS = {*KeyFields.model_fields, "etag", "finality", "tie_out", "damage", "last_remedy"}
_ROW_FIELDS = tuple(CatalogueEntryResponse.model_fields.keys() - _COMPUTED_FIELDS)


def _get_damage(entry: CatalogueEntry) -> Damage | None:
    if not entry.damaged_version:
        return None
    return Damage(
        version=entry.damaged_version,
        damaged_at=entry.damaged_at,
        **explain("version_damaged"),
    )


class CatalogueResponse(ResponseModel):
    """A page of the catalogue."""

    entries: list[CatalogueEntryResponse]
    continuation: NextToken
