"""The JSON of the API as JSON Schema 2020-12, written by hand; tests hold each against what the app really answers.

Answers may gain members; readers ignore those that they do not know.
"""

from typing import Any

from shared.exports import CURRENCY_CODE, INVOICE_ID, MONTH, AttributeSet, Dataset
from shared.ledger.runs import OUTCOMES

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
MOMENT: Schema = {"type": "string", "format": "date-time"}
DATASET: Schema = {"type": "string", "enum": [dataset.value for dataset in Dataset]}
ATTRIBUTE_SET: Schema = {"type": "string", "enum": [each.value for each in AttributeSet]}
OUTCOME: Schema = {"type": "string", "enum": list(OUTCOMES)}
INVOICE: Schema = {"type": "string", "pattern": f"^{INVOICE_ID.pattern}$"}
BILLING_MONTH: Schema = {"type": "string", "pattern": f"^{MONTH.pattern}$"}
CURRENCY: Schema = {"type": "string", "pattern": f"^{CURRENCY_CODE.pattern}$"}
GAP_STATE: Schema = {
    "type": "string",
    "enum": ["landed", "no_data", "not_served", "failed", "never_tried"],
}
RUN_ID: Schema = {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,99}$"}


def told(schema: Schema, text: str) -> Schema:
    return {**schema, "description": text}


def or_null(schema: Schema, text: str = "") -> Schema:
    open_to_null: Schema = {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema:
        open_to_null["enum"] = [*schema["enum"], None]
    return told(open_to_null, text) if text else open_to_null


def members(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
    }


def listed(name: str) -> Schema:
    return {"type": "array", "items": ref(name)}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


KEY = {
    "key": told(
        TEXT, "the export key: dataset, scope and attribute set, as unbilled_usage/2026-11/USD/full"
    ),
    "dataset": DATASET,
    "attribute_set": ATTRIBUTE_SET,
}
SCOPE = {"invoice_id": INVOICE, "billing_month": BILLING_MONTH, "currency_code": CURRENCY}
CODE = {
    "code": or_null(TEXT, "why; an entry of docs/errors.md"),
    "cause": or_null(TEXT),
    "remedy": or_null(TEXT, "what to do"),
}
CONTINUATION = or_null(TEXT, "what to send as `continuation` for what follows; null at the end")

RUN = {
    "run_id": told(RUN_ID, "also the instance id of its orchestration"),
    **KEY,
    "stage": told(TEXT, "starting, posting, waiting, planning, copying, proving, pausing, ended"),
    "outcome": or_null(OUTCOME, "null while it lives"),
    **CODE,
    "detail": or_null(TEXT, "the rule that was broken, where one was"),
    "requested_by": or_null(TEXT),
    "reason": or_null(TEXT),
    "cycle_id": or_null(TEXT),
    "retry_of": or_null(RUN_ID),
    "force": {"type": "boolean"},
    "started_at": TEXT,
    "deadline": or_null(MOMENT),
    "ended_at": or_null(MOMENT),
    "cancel_requested_at": or_null(MOMENT),
    "next_check_at": or_null(MOMENT),
    "waited_seconds": told(COUNT, "in all, for Microsoft and between rounds, to the last look"),
    "polls": told(COUNT, "looks at Microsoft's operation"),
    "posts": told(COUNT, "requests for an export"),
    "operations": COUNT,
    "last_code": or_null(TEXT),
    "request_ids": told({"type": "array", "items": TEXT}, "Microsoft's, the newest ten"),
    "blobs": members({"total": COUNT, "landed": COUNT, "failed": COUNT}),
    "bytes": COUNT,
    "rows": COUNT,
    "version": or_null(TEXT),
    "path": or_null(TEXT, "in the container, below LANDING_PREFIX"),
    "live_run_id": or_null(TEXT, "of a superseded run: who holds the key"),
    "app_version": or_null(TEXT),
}

BLOB = {
    "name": TEXT,
    "ok": told({"type": "boolean"}, "landed and proven"),
    "run_id": told(TEXT, "which run landed it"),
    "bytes": COUNT,
    "rows": COUNT,
    "md5": or_null(TEXT, "base64"),
    "sha256": or_null(TEXT, "hex"),
    "etag": or_null(TEXT, "in the landing"),
    "source_etag": or_null(TEXT),
    "encoding": or_null(TEXT),
    "copy_method": or_null(TEXT, "how it was copied"),
    "tries": COUNT,
    "seconds": {"type": "number", "minimum": 0},
    **CODE,
}

CYCLE = {
    "cycle_id": TEXT,
    "state": told(TEXT, "starting, running, ended, failed"),
    "tick": TEXT,
    "requested_by": or_null(TEXT),
    "started_at": or_null(MOMENT),
    "ended_at": or_null(MOMENT),
    "outcomes": told({"type": "object", "additionalProperties": COUNT}, "how many runs ended how"),
}

ENTRY = {
    **KEY,
    "billing_month": or_null(BILLING_MONTH, "null where it is not known"),
    "version": or_null(TEXT, "null: asked for, nothing landed yet"),
    "path": or_null(TEXT),
    "etag": or_null(TEXT, "Microsoft's: the version's identity"),
    "created_at": or_null(MOMENT, "the age of the data"),
    "first_seen": or_null(MOMENT),
    "landed_at": or_null(MOMENT),
    "blobs": COUNT,
    "bytes": COUNT,
    "rows": COUNT,
    "settles_on": or_null(
        {"type": "string", "format": "date"}, "from then on the data count as final"
    ),
    "finality": told(
        {"type": "string", "enum": ["open", "provisional", "final"]},
        "open: unbilled; provisional: it may be restated",
    ),
    "tie_out": or_null(
        {"type": "object"},
        "the sum of the lines against the invoice's total: tied_out, off_by, no_total",
    ),
    "last_outcome": or_null(OUTCOME, "of the newest run that ended"),
    "last_code": or_null(TEXT),
    "last_remedy": or_null(TEXT),
    "last_run_id": or_null(TEXT),
    "last_ended_at": or_null(MOMENT),
}

LIVE_RUN = {
    "run_id": TEXT,
    "key": TEXT,
    "stage": TEXT,
    "task_hub": told(TEXT, "whose it is"),
    "started_at": or_null(TEXT),
    "next_check_at": or_null(MOMENT),
    "cancel_requested_at": or_null(MOMENT),
    "lease_until": told(
        MOMENT, "a run of another task hub that gives no sign of life until then is taken for lost"
    ),
}

SCHEMAS: dict[str, Schema] = {
    "RunOrder": {
        **members(
            {"dataset": DATASET},
            {
                "invoice_id": told(
                    {**INVOICE, "type": ["string", "null"]}, "of billed datasets, required there"
                ),
                "billing_month": told(
                    {"type": ["string", "null"]}, "of unbilled datasets: yyyy-mm, current or last"
                ),
                "currency_code": told(
                    {"type": ["string", "null"]}, "of unbilled datasets: ISO 4217"
                ),
                "attribute_set": told(
                    {**ATTRIBUTE_SET, "default": "full"}, "full has every documented column"
                ),
                "force": told(
                    {"type": "boolean", "default": False},
                    "land the same data again, beside what is there",
                ),
                "reason": told(
                    {"type": ["string", "null"], "maxLength": 200}, "one line, kept with the run"
                ),
            },
        ),
        "additionalProperties": False,
    },
    "RetryOrder": {
        **members(
            {},
            {
                "reason": told(
                    {"type": ["string", "null"], "maxLength": 200}, "one line, kept with the run"
                )
            },
        ),
        "additionalProperties": False,
    },
    "Nothing": {"type": "object", "additionalProperties": False},
    "Run": members(RUN, SCOPE),
    "StartedRun": members(
        {**RUN, "started": told({"type": "boolean"}, "false: this run had the key already")}, SCOPE
    ),
    "CancelledRun": members(
        {**RUN, "effective_by": told(MOMENT, "no new work begins behind this moment")}, SCOPE
    ),
    "RunList": members(
        {
            "started": told(BILLING_MONTH, "the month listed"),
            "runs": listed("Run"),
            "continuation": CONTINUATION,
        }
    ),
    "Blob": members(BLOB),
    "BlobList": members(
        {
            "run_id": RUN_ID,
            "version": or_null(TEXT),
            "path": or_null(TEXT),
            "blobs": listed("Blob"),
            "continuation": CONTINUATION,
        }
    ),
    "CatalogueEntry": members(ENTRY, SCOPE | {"billing_month": ENTRY["billing_month"]}),
    "Catalogue": members({"entries": listed("CatalogueEntry"), "continuation": CONTINUATION}),
    "CycleOrder": {
        **members({}, {"dry_run": {"type": "boolean", "default": False}}),
        "additionalProperties": False,
    },
    "LeftOut": members({**CODE, "invoice_id": or_null(TEXT)}),
    "Cycle": members(
        {
            **CYCLE,
            "runs": listed("Run"),
            "left_out": listed("LeftOut"),
            "outcome": or_null(
                {"type": "string", "enum": ["complete", "incomplete"]}, "null until it ends"
            ),
            "stalled": {"type": "array", "items": members({"key": TEXT, "stalled_since": MOMENT})},
        }
    ),
    "DryRun": members(
        {
            "dry_run": {"type": "boolean"},
            "tick": MOMENT,
            "base_url": TEXT,
            "left_out": listed("LeftOut"),
            "requests": {
                "type": "array",
                "items": members(
                    {
                        "key": TEXT,
                        "method": TEXT,
                        "path": TEXT,
                        "body": {"type": "object"},
                        "live_run_id": or_null(RUN_ID),
                    }
                ),
            },
            "not_due": {"type": "array", "items": members({"key": TEXT, "next_due_at": MOMENT})},
        }
    ),
    "BackfillOrder": {
        **members(
            {"from": BILLING_MONTH, "to": BILLING_MONTH},
            {"datasets": {"type": "array", "items": DATASET, "minItems": 1, "maxItems": 20}},
        ),
        "additionalProperties": False,
    },
    "Backfill": members(
        {
            "backfill_id": TEXT,
            "state": told(TEXT, "starting, running, ended, failed"),
            "from": BILLING_MONTH,
            "to": BILLING_MONTH,
            "datasets": {"type": "array", "items": DATASET},
            "requested_by": or_null(TEXT),
            "started_at": or_null(MOMENT),
            "ended_at": or_null(MOMENT),
            "cancel_requested_at": or_null(MOMENT),
            "planned": COUNT,
            "landed": COUNT,
            "landed_before": told(COUNT, "of landed: what needed no run"),
            "no_data": COUNT,
            "not_served": COUNT,
            "failed": COUNT,
            "waiting": told(COUNT, "not ended yet"),
            "estimated_end": or_null(MOMENT),
            "left_out": listed("LeftOut"),
            "outcomes": {"type": "object", "additionalProperties": COUNT},
            "runs": {
                "type": "array",
                "items": members(
                    {
                        "run_id": RUN_ID,
                        "key": TEXT,
                        "stage": TEXT,
                        "outcome": or_null(OUTCOME),
                        "code": or_null(TEXT),
                    }
                ),
            },
        }
    ),
    "Gaps": members(
        {
            "from": BILLING_MONTH,
            "to": BILLING_MONTH,
            "gaps": {
                "type": "array",
                "items": members(
                    {
                        "dataset": DATASET,
                        "billing_month": BILLING_MONTH,
                        "state": told(GAP_STATE, "the worst of its keys"),
                        "keys": {
                            "type": "array",
                            "items": members(
                                {"key": TEXT, "state": GAP_STATE, "code": or_null(TEXT)}
                            ),
                        },
                    }
                ),
            },
        }
    ),
    "LiveRun": members(LIVE_RUN),
    "Check": members(
        {
            "name": TEXT,
            "status": {"type": "string", "enum": ["ok", "warn", "fail", "unknown", "skipped"]},
            **CODE,
            "seconds": {"type": "number", "minimum": 0},
            "facts": told({"type": "object"}, "numbers and names, never a secret"),
        }
    ),
    "Preflight": members(
        {"status": {"type": "string", "enum": ["ok", "warn", "fail"]}, "checks": listed("Check")}
    ),
    "Status": members(
        {
            "now": MOMENT,
            "schedule": told(TEXT, "EXPORT_SCHEDULE, in UTC"),
            "next_tick_at": or_null(MOMENT),
            "last_cycle": {"oneOf": [{"type": "null"}, members({**CYCLE, "runs": COUNT})]},
            "live_runs": listed("LiveRun"),
            "last_landed": members(
                {
                    dataset.value: {"oneOf": [{"type": "null"}, ref("CatalogueEntry")]}
                    for dataset in Dataset
                }
            ),
            "task_hub": TEXT,
            "versions": {"type": "object", "additionalProperties": or_null(TEXT)},
        }
    ),
    "Problem": members(
        {
            "type": TEXT,
            "title": TEXT,
            "status": {"type": "integer"},
            "code": told(TEXT, "stable; for programs"),
            "remedy": told(TEXT, "what to do; for people"),
        },
        {
            "errors": told(
                {"type": "array", "items": members({"field": TEXT, "message": TEXT})},
                "every wrong field",
            ),
            "run_id": TEXT,
            "outcome": TEXT,
            "stage": TEXT,
            "id": TEXT,
        },
    ),
}
