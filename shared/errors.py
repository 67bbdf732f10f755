"""Error codes, their causes and remedies, and the exceptions that contain them.

    BillingExportError           contains a code from CATALOGUE; str() returns its cause and remedy
    ├── TransientError           the same request can succeed after retry_after_seconds
    │   ├── ThrottledError       429: the whole app must wait, not only this run
    │   └── UnavailableError     5xx, no connection, a timeout or an unreadable response
    └── PermanentError           the same request always fails
        ├── OperationGoneError   the export operation no longer exists; request a new export
        ├── RequestRefusedError  Microsoft or storage refused the request
        └── InvalidDataError     the response violates a rule; the app uses none of it
            └── MalformedManifestError   the manifest is unreadable; request a new export

    InfrastructureError          replaces any other exception; contains only names and numbers

Codes are stable: rows, logs, API responses and alerts contain them. Activities convert a
BillingExportError to a result of shared/messages.py; any exception that an activity raises is a
failure of the platform.
"""

from typing import NamedTuple

# Effects: what the error leaves undone.
NO_NEW_DATA = "No new data was landed; data that was landed earlier is unchanged."
NOT_REQUESTED = "No request was sent to Microsoft, and no data was landed."
NOT_FETCHED = "No blob in the manifest was fetched, and no data was landed."
NOT_PUBLISHED = "The version is not published; blobs that are already verified are kept."
DELAYED = "No data is lost; the run is delayed."
STALE_INVOICE_LIST = "Cycles do not find new invoices; they continue with the known invoices."
NO_TIE_OUT = "The data is landed; only the comparison with the invoice total is missing."
REPORTED_ONLY = "This finding alone does not affect runs."

# Retry rules: who repeats the work.
NEXT_CYCLE_IF_DUE = "No. The run ends; the next cycle starts a new run if the export is due."
SAME_RUN = "Yes. The run retries after the requested wait, until its deadline."
NEXT_ROUND = "Yes, in the next round of the run (three rounds in total)."
NEXT_CYCLE = "Yes, by the next cycle."
NEXT_COMPARISON = "Yes, whenever the invoices are listed, and once a day."
NOT_AUTOMATICALLY = "No. The app does not retry."
NEXT_PREFLIGHT = "The next preflight repeats the check."


class Entry(NamedTuple):
    """The description of one error code.

    `cause` is one sentence and `remedy` at most two. An empty `effect` (what was not done) or
    `retry` (who repeats the work) means the default of the section.
    """

    cause: str
    remedy: str
    effect: str = ""
    retry: str = ""


class Section(NamedTuple):
    """Error codes of one area, with the default effect and retry rule of the area."""

    title: str
    effect: str
    retry: str
    entries: dict[str, Entry]


SECTIONS = (
    Section(
        "Requests",
        NOT_REQUESTED,
        NEXT_CYCLE_IF_DUE,
        {
            "input_invalid": Entry(
                "The input of the orchestration is not valid for this app.",
                "Start runs with POST /api/runs or with the schedule, not with the host's own API.",
            ),
            "instance_id_mismatch": Entry(
                "The instance ID of the orchestration differs from the ID of its run.",
                "Do not restart an orchestration under a new instance ID. Start a new run with "
                "POST /api/runs.",
            ),
            "not_served": Entry(
                "Microsoft serves unbilled data only for the current and the previous month.",
                "Request the billed dataset for the month's invoice instead.",
            ),
        },
    ),
    Section(
        "Microsoft Graph: rejected requests",
        NO_NEW_DATA,
        NEXT_CYCLE_IF_DUE,
        {
            "graph_bad_request": Entry(
                "Microsoft Graph rejected the export request as invalid (400).",
                "Check the invoice ID, or the currency in which Microsoft bills this partner.",
            ),
            "graph_unauthorized": Entry(
                "Microsoft Graph did not accept the access token (401).",
                "Check the tenant of the identity and AZURE_CLIENT_ID or PARTNER_APP_CLIENT_ID.",
            ),
            "graph_forbidden": Entry(
                "Microsoft Graph denied access to the identity (403).",
                "Grant the identity the application permission PartnerBilling.Read.All in the "
                "partner tenant. A new grant can take an hour to become effective.",
            ),
            "graph_not_found": Entry(
                "Microsoft Graph did not find the requested resource (404).",
                "Check the invoice ID. If every request fails with this code, check "
                "GRAPH_BASE_URL.",
            ),
            "graph_refused": Entry(
                "Microsoft Graph rejected the request with an unexpected status.",
                "Contact Microsoft support with the request ID from the run's row.",
            ),
            "operation_gone": Entry(
                "The export operation disappeared from Microsoft Graph on three consecutive "
                "attempts.",
                "Start a new run later with POST /api/runs.",
            ),
            "manifest_gone": Entry(
                "An export operation succeeded, but Microsoft Graph did not find its manifest, "
                "although the app waited for it and requested new exports.",
                "Start a new run later with POST /api/runs. If the error persists, report the "
                "request ID from the run's row to Microsoft.",
            ),
            "manifest_malformed": Entry(
                "The manifest of an export lacks a required member or contains an unreadable one, "
                "although the app requested new exports.",
                "See detail in the run's row, which names the member, and start a new run later "
                "with POST /api/runs. If the error persists, report the request ID from the run's "
                "row to Microsoft.",
            ),
            "export_unconfirmed": Entry(
                "Export requests of the run may have taken effect, but Microsoft Graph returned no "
                "operation ID, so the app sends no further requests.",
                "Start a new run later with POST /api/runs. If the error persists, check the "
                "service health of Microsoft Graph and any proxy, and see last_code in the run's "
                "row.",
            ),
            "operation_failed": Entry(
                "Microsoft failed to create the export on three consecutive attempts.",
                "Start a new run in a few hours. If the error persists, open a support case with "
                "Microsoft and quote the operation ID from the run's row.",
            ),
            "month_not_open": Entry(
                "Microsoft returned data for a different month, which can happen around the end of "
                "a month, or data that does not show its month.",
                "No action is required; the next cycle requests the export again.",
                retry=NEXT_CYCLE,
            ),
        },
    ),
    Section(
        "Microsoft Graph: temporary failures",
        DELAYED,
        SAME_RUN,
        {
            "graph_throttled": Entry(
                "Microsoft Graph throttled the app (429).",
                "No action is required; the run waits as long as Microsoft Graph requests.",
            ),
            "graph_unavailable": Entry(
                "Microsoft Graph did not respond, or responded that it is unavailable.",
                "No action is required; the run retries. If the error persists, check the service "
                "health of Microsoft Graph.",
            ),
            "graph_malformed": Entry(
                "The response from Microsoft Graph does not match the documentation.",
                "The run retries. If the error persists, report the request ID from the run's row "
                "to Microsoft: the API might have changed.",
            ),
            "graph_location_missing": Entry(
                "Microsoft Graph accepted the export request but returned no operation ID.",
                "The run retries a limited number of times. If the error persists, report the "
                "request ID from the run's row to Microsoft.",
            ),
            "identity_unavailable": Entry(
                "The app could not obtain an access token for its identity.",
                "Check that the managed identity is assigned to the app and that AZURE_CLIENT_ID "
                "contains its client ID.",
            ),
        },
    ),
    Section(
        "Partner Center",
        STALE_INVOICE_LIST,
        NEXT_CYCLE,
        {
            "partner_center_unauthorized": Entry(
                "Partner Center did not accept the access token (401).",
                "Set PARTNER_CENTER_APP_CLIENT_ID to an app that is registered in Partner Center "
                "and trusts the identity, or set INVOICE_SOURCE to list or none.",
            ),
            "partner_center_forbidden": Entry(
                "Partner Center denied access to the identity (403).",
                "Assign the identity a Partner Center role that can read billing data, or set "
                "INVOICE_SOURCE to list or none.",
            ),
            "partner_center_refused": Entry(
                "Partner Center rejected the request with an unexpected status.",
                "Check PARTNER_CENTER_BASE_URL.",
            ),
            "partner_center_throttled": Entry(
                "Partner Center throttled the app (429).",
                "No action is required; the cycle waits or continues with the known invoices.",
            ),
            "partner_center_unavailable": Entry(
                "Partner Center did not respond, or responded that it is unavailable.",
                "No action is required; the cycle continues with the known invoices.",
            ),
            "partner_center_malformed": Entry(
                "The response from Partner Center does not match the documentation.",
                "No action is required at first. If the error persists, set INVOICE_SOURCE to "
                "list, and report the error to the maintainers of this app.",
            ),
        },
    ),
    Section(
        "Invoices",
        NOT_REQUESTED,
        NEXT_CYCLE,
        {
            "invoice_list_empty": Entry(
                "The list of invoices is empty.",
                "No action is required for a new partner. Otherwise check the tenant of the "
                "identity.",
            ),
            "invoice_unreadable": Entry(
                "An entry of the invoice list has no valid invoice ID or currency.",
                "Check the invoice in Partner Center. If it has data and its ID is valid, add the "
                "ID to INVOICE_IDS.",
            ),
            "invoice_list_incomplete": Entry(
                "Partner Center returned fewer invoices than it states.",
                "No action is required at first; the cycle requests the returned and the known "
                "invoices. If the error persists, add the IDs of the missing invoices to "
                "INVOICE_IDS.",
            ),
            "invoice_duplicate": Entry(
                "An invoice is listed twice with different values.",
                "No action is required; the app uses the entry with the most values.",
                effect=REPORTED_ONLY,
            ),
            "invoice_legacy": Entry(
                "The invoice is a legacy invoice, and these exports contain only invoices of the "
                "new commerce experience.",
                "No action is required. The line items are available from the older Partner "
                "Center API.",
                retry=NOT_AUTOMATICALLY,
            ),
            "invoice_voided": Entry(
                "The invoice was voided; the app requests the invoice that replaces it.",
                "No action is required. Data that landed for the voided invoice remains under its "
                "own invoice ID.",
                retry=NOT_AUTOMATICALLY,
            ),
            "invoice_unknown_kind": Entry(
                "The invoice ID starts with neither G nor D, so it is unknown whether an export "
                "exists.",
                "Request it once with POST /api/runs. If it has data, add it to INVOICE_IDS.",
                retry=NOT_AUTOMATICALLY,
            ),
            "currencies_unknown": Entry(
                "No currency is known, so cycles request no unbilled data.",
                "Set EXPORT_CURRENCIES, or wait for the first invoice, whose currency the app "
                "then uses.",
            ),
        },
    ),
    Section(
        "Tie-out",
        NO_TIE_OUT,
        NEXT_COMPARISON,
        {
            "invoice_total_unknown": Entry(
                "The total of the invoice is unknown, so its lines cannot be compared with it.",
                "Set INVOICE_SOURCE to partner_center, because Partner Center lists the totals.",
            ),
            "rows_without_total": Entry(
                "Some lines of the invoice have no readable total or currency.",
                "See the report in the folder reports/tie_out. The lines are landed exactly as "
                "Microsoft delivered them.",
            ),
        },
    ),
    Section(
        "Manifest",
        NOT_FETCHED,
        NEXT_CYCLE_IF_DUE,
        {
            "manifest_rejected": Entry(
                "The manifest violates a safety rule of the app.",
                "Compare SOURCE_ALLOWED with the storage host that Microsoft uses. If they match, "
                "report the request ID from the run's row to Microsoft.",
            ),
            "manifest_inconsistent": Entry(
                "The manifest has the eTag of a landed version, but lists other blobs.",
                "Wait for the next cycle. If the error persists, start a run with force, which "
                "lands the blobs that Microsoft lists now as a version of its own.",
            ),
            "manifest_mismatch": Entry(
                "The tenant, invoice, currency or attribute set in the manifest differs from that "
                "in the request.",
                "Check PARTNER_TENANT_ID.",
            ),
        },
    ),
    Section(
        "Source storage",
        NOT_PUBLISHED,
        NEXT_ROUND,
        {
            "source_sas_expired": Entry(
                "The SAS for Microsoft's storage expired, and Microsoft's storage rejected its "
                "replacement.",
                "If no round succeeds, start a new run with POST /api/runs.",
            ),
            "source_forbidden": Entry(
                "Microsoft's storage denied the read request.",
                "Start a new run later. If the error persists, report the request ID from the "
                "run's row to Microsoft.",
            ),
            "source_missing": Entry(
                "A blob that is listed in the manifest does not exist.",
                "Start a new run: Microsoft might have replaced the data.",
            ),
            "source_changed": Entry(
                "The source data changed during the copy.",
                "No action is required; the next round plans the new version.",
            ),
            "source_unreachable": Entry(
                "Microsoft's storage did not respond, or the connection was interrupted.",
                "No action is required; the next round copies the blob again.",
            ),
            "source_redirected": Entry(
                "Microsoft's storage responded with a redirect, which the app does not follow.",
                "Check whether a proxy between the app and the storage account causes the "
                "redirect.",
            ),
            "source_short": Entry(
                "A read returned fewer bytes than the size that storage reported.",
                "No action is required; the next round copies the blob again.",
            ),
        },
    ),
    Section(
        "Landing storage",
        NO_NEW_DATA,
        NEXT_CYCLE_IF_DUE,
        {
            "storage_busy": Entry(
                "A storage account throttled the app.",
                "No action is required; the run pauses before its next round.",
                effect=DELAYED,
                retry=NEXT_ROUND,
            ),
            "destination_missing": Entry(
                "The landing container does not exist, and the app could not create it.",
                "Create the container, or assign the Storage Blob Data Contributor role on the "
                "account to the identity.",
            ),
            "destination_forbidden": Entry(
                "The landing account denied the write request.",
                "Assign the Storage Blob Data Contributor role on the landing container to the "
                "identity.",
            ),
            "destination_full": Entry(
                "The landing account has no capacity left, or a policy prevents the write.",
                "Check the capacity and the policies of the account.",
            ),
            "destination_unreachable": Entry(
                "The landing account did not respond.",
                "Check the firewall and the private endpoints of the account.",
                effect=NOT_PUBLISHED,
                retry=NEXT_ROUND,
            ),
            "foreign_blob": Entry(
                "The folder of a version contains a blob that this app did not write.",
                "Move the blob to another folder: a version folder must contain only the blobs "
                "that its manifest lists. Then start a new run with POST /api/runs.",
                effect=NOT_PUBLISHED,
            ),
        },
    ),
    Section(
        "Copy and verification",
        NOT_PUBLISHED,
        NEXT_ROUND,
        {
            "proof_size": Entry(
                "The size of a landed blob differs from the size of its source.",
                "No action is required; the next round copies the blob again.",
            ),
            "proof_md5": Entry(
                "The MD5 hash of a landed blob differs from the hash of its source.",
                "No action is required; the next round copies the blob again.",
            ),
            "proof_gzip": Entry(
                "A blob is not a complete gzip file.",
                "The next round copies the blob again. If the error persists, Microsoft's file is "
                "damaged; report it to Microsoft.",
            ),
            "proof_lines": Entry(
                "A blob contains a line that is not a JSON object.",
                "The next round copies the blob again. If the error persists, Microsoft's file is "
                "damaged; report it to Microsoft.",
            ),
            "proof_bomb": Entry(
                "The decompressed size of a blob exceeds the limit for billing files.",
                "Report the request ID from the run's row to Microsoft.",
            ),
            "copy_failed": Entry(
                "A blob could not be copied for an unexpected reason.",
                "See the application log of the copy, then start a new run.",
            ),
            "blobs_missing": Entry(
                "Some blobs could not be landed in any round.",
                "See the error codes of the run's blobs. A new run copies only the missing blobs.",
                retry=NEXT_CYCLE_IF_DUE,
            ),
        },
    ),
    Section(
        "Landed versions",
        "Readers do not see the version; latest.json names the newest version that has lost no "
        "blob, if there is one.",
        NEXT_CYCLE,
        {
            "version_damaged": Entry(
                "Blobs or the completion marker of a landed version were changed or deleted "
                "afterwards, and no run has repaired the version.",
                "Find out what changed the landing container, and restore the blobs, for example "
                "from their soft-deleted versions. Then start a new run with POST /api/runs.",
            ),
        },
    ),
    Section(
        "Preflight",
        REPORTED_ONLY,
        NEXT_PREFLIGHT,
        {
            "role_missing": Entry(
                "The access token for Microsoft Graph lacks the application permission "
                "PartnerBilling.Read.All.",
                "Grant the permission to the identity in the partner tenant. The app can use a "
                "token that was issued before the grant for up to a day.",
            ),
            "token_of_another_tenant": Entry(
                "The tenant of the access token differs from PARTNER_TENANT_ID.",
                "Set PARTNER_APP_CLIENT_ID to an app that trusts the identity and has consent in "
                "the partner tenant, or correct PARTNER_TENANT_ID.",
            ),
            "token_opaque": Entry(
                "The access token cannot be decoded, so its roles are unknown.",
                "No action is required; the check of Microsoft Graph shows whether access works.",
            ),
            "no_identity_needed": Entry(
                "The app sends no access token, because the service is on a loopback address or "
                "is accessed with a connection string.",
                "No action is required.",
            ),
            "not_in_use": Entry(
                "The current settings do not use this service.",
                "No action is required.",
            ),
            "container_missing": Entry(
                "The landing container does not exist yet, so write access could not be checked.",
                "Create the container, or let the first run create it. Then run the preflight "
                "again.",
            ),
            "probe_not_found": Entry(
                "The probe that the preflight wrote could not be read back unchanged.",
                "Check whether a cache exists between the app and the storage account, then run "
                "the preflight again.",
            ),
            "tables_forbidden": Entry(
                "The landing account denied access to its tables.",
                "Assign the Storage Table Data Contributor role on the landing account to the "
                "identity.",
            ),
            "tables_unreachable": Entry(
                "The table service of the landing account did not respond as expected.",
                "Check the firewall and the private endpoints of the account, and "
                "LANDING_STORAGE__tableServiceUri.",
            ),
            "copy_refused": Entry(
                "The landing account cannot copy from Microsoft's storage, so runs stream the "
                "blobs through the app.",
                "Set the permitted scope for copy operations of the account to any storage "
                "account, or set COPY_MODE to stream.",
            ),
            "copy_untried": Entry(
                "Server-side copy can be checked only with an export that Microsoft still stores.",
                "Run the preflight again after the next run.",
            ),
            "copy_not_in_use": Entry(
                "The current settings stream the blobs through the app, so server-side copy is "
                "not required.",
                "No action is required.",
            ),
            "host_storage_forbidden": Entry(
                "The storage account of AzureWebJobsStorage denied access.",
                "Assign the identity the roles Storage Blob Data Owner, Storage Queue Data "
                "Contributor and Storage Table Data Contributor on that account.",
            ),
            "host_storage_unreachable": Entry(
                "A service of the storage account of AzureWebJobsStorage did not respond.",
                "Check the firewall, the private endpoints (blob, queue and table) and the names "
                "in AzureWebJobsStorage.",
            ),
            "host_storage_unknown": Entry(
                "AzureWebJobsStorage is not set, or has a format that the preflight does not "
                "support.",
                "No action is required if functions start.",
            ),
            "clock_skewed": Entry(
                "The clock of the computer differs from the clock of the storage service.",
                "Correct the clock of the computer. On Azure, restart the app, and report the "
                "finding if it persists.",
            ),
            "clock_unknown": Entry(
                "The storage service returned no date.",
                "See the check for the landing container.",
            ),
            "region_unknown": Entry(
                "The region of a storage account cannot be determined by a request.",
                "Compare the regions of the landing account and the app in the portal; copies "
                "within one region are fastest.",
            ),
            "settings_contradict": Entry(
                "Some valid settings contradict each other.",
                "Correct the settings that `contradictions` lists.",
            ),
            "settings_invalid": Entry(
                "Some settings are invalid, and the app does not start with them.",
                "Correct the settings that `faults` lists.",
            ),
            "bundle_too_old": Entry(
                "host.json allows an extension bundle that does not support orchestration "
                "versions.",
                "Set the bundle version to [4.30.0, 5.0.0). Otherwise a deployment can break "
                "active orchestrations.",
            ),
            "versions_differ": Entry(
                "The installed package versions differ from the tested versions.",
                "Build the package with make package and deploy it again; on a development "
                "computer, run make setup.",
            ),
            "versions_unknown": Entry(
                "host.json or requirements.txt cannot be read.",
                "Deploy again; both files are part of the package.",
            ),
            "explained_elsewhere": Entry(
                "The check could not be completed because another check failed.",
                "Fix the problem that the check in `check` reports, then run the preflight again.",
            ),
            "check_failed": Entry(
                "The check itself failed or timed out.",
                "Run the preflight again. If the error persists, see the application log.",
            ),
        },
    ),
    Section(
        "Runs and platform",
        NO_NEW_DATA,
        NEXT_CYCLE_IF_DUE,
        {
            "deadline_passed": Entry(
                "The run had to wait longer than RUN_DEADLINE_HOURS for Microsoft or for storage.",
                "See last_code in the run's row. Start a new run, or increase RUN_DEADLINE_HOURS.",
            ),
            "cancelled": Entry(
                "A user cancelled the run.",
                "Start a new run when required; it copies only the missing blobs.",
                effect=NOT_PUBLISHED,
            ),
            "platform_fault": Entry(
                "The platform (a worker, the task hub or the tables) failed several times in "
                "succession.",
                "See the exceptions in the application log, then start a new run. It copies only "
                "the missing blobs.",
            ),
            "restart_limit_reached": Entry(
                "The orchestration failed without a recorded result, and the app has already "
                "started it again 3 times.",
                "See the exceptions in the application log and the memory of the worker process, "
                "then start a new run, cycle or backfill. It copies only the missing blobs.",
            ),
            "task_hub_timeout": Entry(
                "The task hub did not respond within 20 seconds, or within 5 minutes to a purge.",
                "Check the app's own storage account and the host. The app tries again.",
                effect=DELAYED,
                retry="Yes, by the next pass of the cleanup, or by the next retention.",
            ),
            "run_lost": Entry(
                "The orchestration ended or was lost without a recorded result.",
                "Start a new run, cycle or backfill; it copies only the missing blobs.",
            ),
            "terminated": Entry(
                "A user terminated the orchestration.",
                "Start a new run, cycle or backfill when required. To stop a run or a backfill, "
                "cancel it instead.",
            ),
        },
    ),
)

CATALOGUE: dict[str, Entry] = {
    code: entry._replace(effect=entry.effect or section.effect, retry=entry.retry or section.retry)
    for section in SECTIONS
    for code, entry in section.entries.items()
}


def get_cause(code: str) -> str:
    """Return the cause of `code`, or a placeholder for a code that is not in the catalogue."""
    return CATALOGUE[code].cause if code in CATALOGUE else "Unknown error code."


def get_remedy(code: str) -> str:
    """Return the remedy for `code`, or a general remedy for a code that is not in the catalogue."""
    if code in CATALOGUE:
        return CATALOGUE[code].remedy
    return "See the run's row and the application log."


class BillingExportError(Exception):
    """An error with a code from CATALOGUE.

    `request_id` is Microsoft's request ID, if there was one. The error never contains the text of a
    response.
    """

    def __init__(
        self,
        code: str,
        *,
        http_status: int | None = None,
        error_code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        assert code in CATALOGUE, code
        self.code = code
        self.http_status = http_status
        self.error_code = error_code
        self.request_id = request_id
        super().__init__(f"{code}: {CATALOGUE[code].cause} {CATALOGUE[code].remedy}")


class TransientError(BillingExportError):
    """A failure that might not recur when the request is repeated.

    `retry_after_seconds` is the wait that the response requests, or None if it requests none.
    `was_sent` is False if the request cannot have reached the service.
    """

    def __init__(
        self,
        code: str,
        *,
        retry_after_seconds: int | None = None,
        http_status: int | None = None,
        error_code: str | None = None,
        request_id: str | None = None,
        was_sent: bool = True,
    ) -> None:
        super().__init__(
            code, http_status=http_status, error_code=error_code, request_id=request_id
        )
        self.retry_after_seconds = retry_after_seconds
        self.was_sent = was_sent


class ThrottledError(TransientError):
    """The service throttles the whole app, not only the current run."""


class UnavailableError(TransientError):
    """The service did not respond, or its response cannot be used."""


class PermanentError(BillingExportError):
    """A failure that the same request always causes."""


class OperationGoneError(PermanentError):
    """The export operation no longer exists."""


class RequestRefusedError(PermanentError):
    """Microsoft or storage refused the request."""


class InvalidDataError(PermanentError):
    """A response violates a rule of the app.

    `detail` is a short sentence about the violated rule and never quotes the response.
    """

    def __init__(self, code: str, detail: str, *, request_id: str | None = None) -> None:
        super().__init__(code, request_id=request_id)
        self.detail = detail


class MalformedManifestError(InvalidDataError):
    """The manifest of an operation does not have the documented structure.

    `detail` names the member. Another operation can have a readable manifest.
    """

    def __init__(self, detail: str, *, request_id: str | None = None) -> None:
        super().__init__("manifest_malformed", detail, request_id=request_id)


class InfrastructureError(Exception):
    """The sanitized form of an unexpected exception.

    Messages of libraries can contain signed URLs, so only the type name and numbers are kept.
    """

    def __init__(
        self,
        code: str,
        type_name: str,
        http_status: int | None = None,
        error_code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        self.code = code
        self.type_name = type_name
        self.http_status = http_status
        self.error_code = error_code
        self.request_id = request_id
        facts = (("status", http_status), ("error_code", error_code), ("request_id", request_id))
        texts = [f"{name} {value}" for name, value in facts if value is not None]
        super().__init__(" ".join([code, type_name, *texts]))
