"""What this app answers to, as OpenAPI 3.1: written by hand from the fields that the code reads.

`make docs` writes it to docs/openapi.json. Tests hold its routes and schemas against the app.
"""

import json
from functools import cache
from typing import Any

from shared.telemetry import APP_VERSION
from triggers.schemas import BILLING_MONTH, DATASET, OUTCOME, RUN_ID, SCHEMAS, Schema, ref

NOT_STARTED = "The task hub or the tables cannot be reached; ask again after Retry-After."
PROBLEMS = {
    400: "Wrong fields, every one of them named in `errors`.",
    404: "There is no such thing.",
    409: "Not possible in this state.",
    413: "The body is too large.",
    503: NOT_STARTED,
}
RETRY_AFTER: Schema = {
    "description": "Seconds until it is worth asking again.",
    "schema": {"type": "integer"},
}
LIMIT = (
    "limit",
    {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    "how many at most",
)
CONTINUATION = (
    "continuation",
    {"type": "string"},
    "from the answer before; opaque, and of the same filters only",
)

Parameter = tuple[str, Schema, str]


def in_query(*parameters: Parameter) -> list[Schema]:
    return [
        {"name": name, "in": "query", "schema": schema, "description": text}
        for name, schema, text in parameters
    ]


def in_path(name: str, schema: Schema) -> list[Schema]:
    return [{"name": name, "in": "path", "required": True, "schema": schema}]


def problems(*statuses: int) -> Schema:
    content = {"application/problem+json": {"schema": ref("Problem")}}
    retry = {"headers": {"Retry-After": RETRY_AFTER}}
    return {
        str(status): {
            "description": PROBLEMS[status],
            "content": content,
            **(retry if status == 503 else {}),
        }
        for status in statuses
    }


def says(status: int, schema: str, text: str, **headers: Schema) -> Schema:
    found = {"description": text, "content": {"application/json": {"schema": ref(schema)}}}
    return {
        str(status): {
            **found,
            "headers": {name.replace("_", "-"): value for name, value in headers.items()},
        }
    }


def operation(
    name: str,
    summary: str,
    answers: Schema,
    *,
    parameters: list[Schema] | None = None,
    body: str = "",
    example: Any = None,
    required: bool = False,
) -> Schema:
    found: Schema = {"operationId": name, "summary": summary, "responses": answers}
    if parameters:
        found["parameters"] = parameters
    if body:
        content: Schema = {"schema": ref(body)}
        if example is not None:
            content["examples"] = example
        found["requestBody"] = {"required": required, "content": {"application/json": content}}
    return found


LOCATION: Schema = {"description": "Where to look at it.", "schema": {"type": "string"}}
ETAG: Schema = {"description": "To be sent as If-None-Match.", "schema": {"type": "string"}}
SAME: Schema = {"304": {"description": "As you have it already."}}
ID = in_path("run_id", RUN_ID)
ORDERS = {
    "billed": {"value": {"dataset": "billed_usage", "invoice_id": "G016907411"}},
    "unbilled": {
        "value": {
            "dataset": "unbilled_reconciliation",
            "billing_month": "current",
            "currency_code": "USD",
            "reason": "month end",
        }
    },
}

PATHS: dict[str, dict[str, Schema]] = {
    "/runs": {
        "post": operation(
            "start_run",
            "Land one export. One that runs already is answered, not started again.",
            says(202, "StartedRun", "The run.", Location=LOCATION, Retry_After=RETRY_AFTER)
            | problems(400, 413, 503),
            body="RunOrder",
            example=ORDERS,
            required=True,
        ),
        "get": operation(
            "list_runs",
            "The runs that began in a month, newest first; without `started`, in this month.",
            says(200, "RunList", "A page; it may be short of `limit` and go on.")
            | problems(400, 503),
            parameters=in_query(
                ("started", BILLING_MONTH, "the month"),
                ("dataset", DATASET, "only of it"),
                ("outcome", OUTCOME, "only those that ended so"),
                LIMIT,
                CONTINUATION,
            ),
        ),
    },
    "/runs/{run_id}": {
        "get": operation(
            "get_run",
            "One run: how far it is, how it ended, what to do.",
            says(200, "Run", "The run.", Retry_After=RETRY_AFTER, ETag=ETAG)
            | SAME
            | problems(400, 404, 503),
            parameters=ID,
        )
    },
    "/runs/{run_id}/blobs": {
        "get": operation(
            "list_run_blobs",
            "The blobs of the version that the run lands.",
            says(200, "BlobList", "A page.") | problems(400, 404, 503),
            parameters=ID
            + in_query(
                ("ok", {"type": "boolean"}, "only the proven ones, or only the others"),
                LIMIT,
                CONTINUATION,
            ),
        )
    },
    "/runs/{run_id}/cancel": {
        "post": operation(
            "cancel_run",
            "No new work; what is proven stays, and the key is free at once.",
            says(202, "CancelledRun", "Marked.", Location=LOCATION, Retry_After=RETRY_AFTER)
            | problems(400, 404, 409, 413, 503),
            parameters=ID,
            body="Nothing",
        )
    },
    "/runs/{run_id}/retry": {
        "post": operation(
            "retry_run",
            "The same export again, as a new run that copies only what is missing.",
            says(
                202,
                "StartedRun",
                "The new run; `retry_of` names the old one.",
                Location=LOCATION,
                Retry_After=RETRY_AFTER,
            )
            | problems(400, 404, 409, 413, 503),
            parameters=ID,
            body="RetryOrder",
        )
    },
    "/cycles": {
        "post": operation(
            "start_cycle",
            "The scheduled round, now; or exactly what it would ask for.",
            says(202, "Cycle", "The cycle.", Location=LOCATION, Retry_After=RETRY_AFTER)
            | says(200, "DryRun", "What it would ask for; nothing was started.")
            | problems(400, 413, 503),
            body="CycleOrder",
        )
    },
    "/cycles/{cycle_id}": {
        "get": operation(
            "get_cycle",
            "A cycle and its runs.",
            says(200, "Cycle", "The cycle.", Retry_After=RETRY_AFTER, ETag=ETAG)
            | SAME
            | problems(400, 404, 503),
            parameters=in_path("cycle_id", {"type": "string"}),
        )
    },
    "/backfills": {
        "post": operation(
            "start_backfill",
            "All of these months that is not landed yet, as far as Microsoft still serves it.",
            says(202, "Backfill", "The backfill.", Location=LOCATION, Retry_After=RETRY_AFTER)
            | problems(400, 413, 503),
            body="BackfillOrder",
            required=True,
        )
    },
    "/backfills/{backfill_id}": {
        "get": operation(
            "get_backfill",
            "How far it is, and when it should be done.",
            says(200, "Backfill", "The backfill.", Retry_After=RETRY_AFTER, ETag=ETAG)
            | SAME
            | problems(400, 404, 503),
            parameters=in_path("backfill_id", {"type": "string"}),
        )
    },
    "/backfills/{backfill_id}/cancel": {
        "post": operation(
            "cancel_backfill",
            "No further run; live ones end at their next look, and what is landed stays.",
            says(202, "Backfill", "Marked.", Location=LOCATION, Retry_After=RETRY_AFTER)
            | problems(400, 404, 409, 413, 503),
            parameters=in_path("backfill_id", {"type": "string"}),
            body="Nothing",
        )
    },
    "/gaps": {
        "get": operation(
            "get_gaps",
            "Per dataset and month what is landed, and what is missing and why; without months, of the last year.",
            says(200, "Gaps", "The report.") | problems(400, 503),
            parameters=in_query(
                ("from", BILLING_MONTH, "the first month"),
                ("to", BILLING_MONTH, "the last month"),
                (
                    "datasets",
                    {"type": "string"},
                    "with commas between; without it, those of EXPORT_DATASETS",
                ),
            ),
        )
    },
    "/catalogue": {
        "get": operation(
            "get_catalogue",
            "What is landed: the newest version of every key.",
            says(200, "Catalogue", "A page.") | problems(400, 503),
            parameters=in_query(
                ("dataset", DATASET, "one partition, one request; without it, all four"),
                ("billing_month", BILLING_MONTH, "only of this month"),
                LIMIT,
                CONTINUATION,
            ),
        )
    },
    "/status": {
        "get": operation(
            "get_status",
            "What comes next, what runs, what landed last, what is installed.",
            says(200, "Status", "One look at everything.") | problems(400, 503),
        )
    },
    "/preflight": {
        "get": operation(
            "preflight",
            "The doctor: each right and dependency by itself, with the fix.",
            says(200, "Preflight", "What was found, also where something is wrong.")
            | problems(400, 503),
        )
    },
    "/health": {
        "get": {
            **operation(
                "health",
                "Whether the app can do its work. Anonymous; cached for a minute.",
                {
                    "200": {"description": "It can."},
                    "503": {"description": "It cannot: the tables do not answer."},
                },
            ),
            "security": [],
        }
    },
    "/openapi.json": {
        "get": operation(
            "get_openapi",
            "This document.",
            {
                "200": {
                    "description": "OpenAPI 3.1.",
                    "content": {"application/json": {"schema": {"type": "object"}}},
                    "headers": {"ETag": ETAG},
                }
            }
            | SAME
            | problems(400),
        )
    },
}


@cache
def document() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Partner Billing Export",
            "version": APP_VERSION,
            "description": "Lands Microsoft's CSP billing exports in the partner's own storage. Times are UTC, sizes are bytes; "
            "every problem has a stable `code` and a `remedy`. An unknown query parameter is refused by name.",
        },
        "servers": [{"url": "/api"}],
        "security": [{"function_key": []}],
        "paths": PATHS,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "function_key": {"type": "apiKey", "in": "header", "name": "x-functions-key"}
            },
        },
    }


def text() -> str:
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"
