"""Error codes, their causes and remedies, and the exceptions that carry them.

    BillingExportError           carries a code of CATALOGUE; str() gives its cause and remedy
    ├── TransientError           the same request can succeed after retry_after_seconds
    │   ├── ThrottledError       429: the whole app must wait, not only this run
    │   └── UnavailableError     5xx, no connection, a timeout or an unreadable response
    └── PermanentError           the same request always fails
        ├── OperationGoneError   the export operation no longer exists; request a new export
        ├── RequestRefusedError  Microsoft or storage refused the request
        └── InvalidDataError     the response violates a rule; the app uses none of it

    InfrastructureError          replaces any other exception; contains only names and numbers

Codes are stable: rows, logs, API responses and alerts contain them. Activities convert a
BillingExportError to a result of shared/messages.py; any exception that an activity raises is a
failure of the platform.
"""

from typing import NamedTuple

NOTHING_NEW = "Nothing new was landed; what was landed before stays as it is."
NOT_ASKED = "Microsoft was not asked, and nothing was landed."
NOT_FETCHED = "Nothing of the manifest was fetched, and nothing was landed."
NOT_SHOWN = "The blob is not landed, and no reader is shown its version; what is proven is kept."
LATER = "Nothing is lost: the run goes on later."
OLD_LIST = "New invoices are not found yet; those known from before are asked for."
ONLY_TOLD = "Runs are not touched by the finding itself."

ENDS = "No: the run ends; the next cycle asks again where the key is due."
WAITS = "Yes: by the run itself, after the wait that was asked for, until its deadline."
ROUND = "Yes: by the next round of the run, three in all."
CYCLE = "Yes: by the next cycle."
NEVER = "No: not by itself."
LOOK = "It is told anew by each look of the doctor."


class CatalogueEntry(NamedTuple):
    """One entry of the catalogue, from which docs/errors.md is made. One sentence each, the remedy at most two.

    cause: what it means. remedy: what a person does about it. not_done: what did not happen. retried: who tries again.
    """

    cause: str
    remedy: str
    not_done: str = NOTHING_NEW
    retried: str = ENDS


CATALOGUE: dict[str, CatalogueEntry] = {
    # the request
    "input_invalid": CatalogueEntry(
        "The input of the orchestration is not one that this app starts.",
        "Start runs by POST /api/runs or by the schedule, not with the host's own key.",
        not_done=NOT_ASKED,
    ),
    "instance_id_mismatch": CatalogueEntry(
        "The orchestration runs under another instance id than its run.",
        "A restart under a new id cannot hold the key: ask again by POST /api/runs.",
        not_done=NOT_ASKED,
    ),
    "not_served": CatalogueEntry(
        "Unbilled data of this month is not served: only this month and the one before are.",
        "Ask for the billed dataset of the month's invoice instead.",
        not_done=NOT_ASKED,
    ),
    # Microsoft Graph
    "graph_bad_request": CatalogueEntry(
        "Microsoft Graph refused the export as a wrong request (400).",
        "Check the invoice id or the currency: it must be one that Microsoft bills this partner in.",
    ),
    "graph_unauthorized": CatalogueEntry(
        "Microsoft Graph did not accept the token (401).",
        "Check the identity's tenant and AZURE_CLIENT_ID or PARTNER_APP_CLIENT_ID.",
    ),
    "graph_forbidden": CatalogueEntry(
        "Microsoft Graph refused the identity (403).",
        "Grant it the application permission PartnerBilling.Read.All in the partner tenant; a new grant can take an hour.",
    ),
    "graph_not_found": CatalogueEntry(
        "Microsoft Graph does not know what was asked for (404).",
        "Check the invoice id; check GRAPH_BASE_URL if every request ends so.",
    ),
    "graph_refused": CatalogueEntry(
        "Microsoft Graph refused the request with a status that has no entry of its own.",
        "Look up the request id of the run's row with Microsoft support.",
    ),
    "graph_throttled": CatalogueEntry(
        "Microsoft Graph asked the app to slow down.",
        "Nothing to do: the run waits as long as Graph says.",
        not_done=LATER,
        retried=WAITS,
    ),
    "graph_unavailable": CatalogueEntry(
        "Microsoft Graph did not answer, or answered that it cannot now.",
        "Nothing to do: the run asks again. If it lasts, look at the service health of Microsoft Graph.",
        not_done=LATER,
        retried=WAITS,
    ),
    "graph_malformed": CatalogueEntry(
        "The answer of Microsoft Graph is not what its documents describe.",
        "The run asks again. If it lasts, report the request id of the run's row: the contract may have changed.",
        not_done=LATER,
        retried=WAITS,
    ),
    "graph_location_missing": CatalogueEntry(
        "The export was accepted without saying which operation to ask for.",
        "Ask again later; if it lasts, report the request id of the run's row to Microsoft.",
        not_done=LATER,
        retried=WAITS,
    ),
    "identity_unavailable": CatalogueEntry(
        "No token could be had for the identity.",
        "Check that the managed identity is assigned to the app and that AZURE_CLIENT_ID names it.",
        not_done=LATER,
        retried=WAITS,
    ),
    "operation_gone": CatalogueEntry(
        "Microsoft forgot the export operation, three times over.",
        "Ask again later by POST /api/runs.",
    ),
    "operation_failed": CatalogueEntry(
        "Microsoft could not make the export, three times over.",
        "Ask again in some hours; if it lasts, open a case with Microsoft naming the operation of the run's row.",
    ),
    "month_not_open": CatalogueEntry(
        "Microsoft answered with the data of another month, as it does around a month's end.",
        "Nothing to do: nothing was landed, and the next cycle asks again.",
        retried=CYCLE,
    ),
    # Partner Center and its invoices
    "partner_center_unauthorized": CatalogueEntry(
        "Partner Center did not accept the token (401).",
        "Set PARTNER_CENTER_APP_CLIENT_ID to an app that Partner Center knows and that trusts the identity, or INVOICE_SOURCE to "
        "list or none.",
        not_done=OLD_LIST,
        retried=CYCLE,
    ),
    "partner_center_forbidden": CatalogueEntry(
        "Partner Center refused the identity (403).",
        "Give it a role in Partner Center that may read billing, or set INVOICE_SOURCE to list or none.",
        not_done=OLD_LIST,
        retried=CYCLE,
    ),
    "partner_center_refused": CatalogueEntry(
        "Partner Center refused the request with a status that has no entry of its own.",
        "Check PARTNER_CENTER_BASE_URL; until it answers, cycles ask for the invoices that are known already.",
        not_done=OLD_LIST,
        retried=CYCLE,
    ),
    "partner_center_throttled": CatalogueEntry(
        "Partner Center asked the app to slow down.",
        "Nothing to do: the cycle waits, or goes on with the invoices it knows.",
        not_done=OLD_LIST,
        retried=CYCLE,
    ),
    "partner_center_unavailable": CatalogueEntry(
        "Partner Center did not answer, or answered that it cannot now.",
        "Nothing to do: the cycle goes on with the invoices it knows, and the next one asks again.",
        not_done=OLD_LIST,
        retried=CYCLE,
    ),
    "partner_center_malformed": CatalogueEntry(
        "The answer of Partner Center is not what its documents describe.",
        "Nothing to do at first: cycles go on with the invoices they know. If it lasts, set INVOICE_SOURCE to list.",
        not_done=OLD_LIST,
        retried=CYCLE,
    ),
    "invoice_list_empty": CatalogueEntry(
        "The list of invoices is empty.",
        "Nothing to do for a new partner; else check which tenant the identity belongs to.",
        not_done=NOT_ASKED,
        retried=CYCLE,
    ),
    "invoice_unreadable": CatalogueEntry(
        "An entry of the invoice list has no id or currency that can be read.",
        "Look at the invoice in Partner Center; ask for it by POST /api/runs if it has data.",
        not_done=NOT_ASKED,
        retried=CYCLE,
    ),
    "invoice_duplicate": CatalogueEntry(
        "An invoice is listed twice, with different facts.",
        "Nothing to do: the first entry counts, and the data are the same.",
        not_done=ONLY_TOLD,
        retried=CYCLE,
    ),
    "invoice_legacy": CatalogueEntry(
        "An invoice of legacy commerce: these exports hold new commerce only.",
        "Nothing to do; its lines are served by Partner Center's older line item API.",
        not_done=NOT_ASKED,
        retried=NEVER,
    ),
    "invoice_voided": CatalogueEntry(
        "An invoice that was voided; the one that replaces it is asked for instead.",
        "Nothing to do; what was landed of it before stays, marked by its own invoice id.",
        not_done=NOT_ASKED,
        retried=NEVER,
    ),
    "invoice_unknown_kind": CatalogueEntry(
        "An invoice id begins with neither G nor D, so that nobody knows whether it has an export.",
        "Ask for it once by POST /api/runs; if it has data, name it in INVOICE_IDS.",
        not_done=NOT_ASKED,
        retried=NEVER,
    ),
    "invoice_total_unknown": CatalogueEntry(
        "The invoice's total is not known, so its lines have nothing to be compared with.",
        "Let cycles find invoices in Partner Center, which lists the totals.",
        not_done="The landing stands; only the comparison is missing.",
        retried="Yes: when a newer version lands.",
    ),
    "rows_without_total": CatalogueEntry(
        "Some lines of the invoice hold no total or no currency that can be read.",
        "Look at the report below reports/tie_out: the lines themselves are landed as Microsoft made them.",
        not_done="The landing stands; only the comparison is missing.",
        retried="Yes: when a newer version lands.",
    ),
    "currencies_unknown": CatalogueEntry(
        "No currency is known, so no unbilled data are asked for.",
        "Set EXPORT_CURRENCIES, or wait for the first invoice: its currency counts.",
        not_done=NOT_ASKED,
        retried=CYCLE,
    ),
    # the manifest
    "manifest_rejected": CatalogueEntry(
        "The manifest breaks a rule that keeps a landing safe; nothing of it was fetched.",
        "Compare SOURCE_ALLOWED with the storage host Microsoft uses; else report the request id of the run's row.",
        not_done=NOT_FETCHED,
    ),
    "manifest_mismatch": CatalogueEntry(
        "The manifest is of another tenant, invoice, currency or attribute set than was asked for.",
        "Check PARTNER_TENANT_ID; nothing was fetched.",
        not_done=NOT_FETCHED,
    ),
    # copying
    "source_sas_expired": CatalogueEntry(
        "The signature for Microsoft's storage expired and a fresh one did not help.",
        "Ask again: POST /api/runs.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    "source_forbidden": CatalogueEntry(
        "Microsoft's storage refused the read.",
        "Ask again later; if it lasts, report the request id of the run's row.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    "source_missing": CatalogueEntry(
        "A blob of the manifest is not there.",
        "Ask again: Microsoft may have replaced the data.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    "source_changed": CatalogueEntry(
        "The data changed while it was copied.",
        "Nothing to do: the next round plans the new version.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    "source_unreachable": CatalogueEntry(
        "Microsoft's storage did not answer, or broke off.",
        "Nothing to do: the next round copies the blob again.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    "source_redirected": CatalogueEntry(
        "Microsoft's storage answered with a redirect; it was not followed.",
        "Look for a proxy between app and storage.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    "source_short": CatalogueEntry(
        "A read ended before the size that storage had named.",
        "Nothing to do: the next round copies the blob again.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    "storage_busy": CatalogueEntry(
        "A storage account asked the app to slow down.",
        "Nothing to do: the run pauses before its next round.",
        not_done=LATER,
        retried=ROUND,
    ),
    "destination_missing": CatalogueEntry(
        "The landing container does not exist and could not be made.",
        "Create it, or give the identity Storage Blob Data Contributor on the account.",
    ),
    "destination_forbidden": CatalogueEntry(
        "The landing account refused the write.",
        "Give the identity Storage Blob Data Contributor on the landing container.",
    ),
    "destination_full": CatalogueEntry(
        "The landing account has no room, or a policy forbids the write.",
        "Look at the account's capacity and policies.",
    ),
    "destination_unreachable": CatalogueEntry(
        "The landing account did not answer.",
        "Look at its firewall and private endpoints; the next round tries again.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    "foreign_blob": CatalogueEntry(
        "A blob that this app did not write lies in the folder of a version.",
        "Move it away: a version folder holds what its manifest names and nothing else. Then POST /api/runs again.",
        not_done=NOT_SHOWN,
    ),
    "proof_size": CatalogueEntry(
        "A landed blob has another size than its source.",
        "Nothing to do: it is copied again.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    "proof_md5": CatalogueEntry(
        "A landed blob has another MD5 than its source.",
        "Nothing to do: it is copied again.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    "proof_gzip": CatalogueEntry(
        "A blob is not gzip to its very end.",
        "It is copied again; if it lasts, Microsoft's file itself is damaged.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    "proof_lines": CatalogueEntry(
        "A blob has a line that is not a JSON object.",
        "It is copied again; if it lasts, Microsoft's file itself is damaged.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    "proof_bomb": CatalogueEntry(
        "A blob unpacks to more than any billing file; it was given up.",
        "Report the request id of the run's row.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    "blobs_missing": CatalogueEntry(
        "Some blobs could not be landed in any round; what is proven is kept.",
        "Look at the codes of the run's blobs; a new run copies only what is missing.",
        not_done=NOT_SHOWN,
    ),
    "copy_failed": CatalogueEntry(
        "A blob could not be copied for a reason without an entry of its own.",
        "Look at the log of the copy; ask again.",
        not_done=NOT_SHOWN,
        retried=ROUND,
    ),
    # the doctor
    "role_missing": CatalogueEntry(
        "The token for Microsoft Graph lacks the application permission PartnerBilling.Read.All.",
        "Grant it to the identity in the partner tenant; a token that was issued before the grant is used up to a day.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "token_of_another_tenant": CatalogueEntry(
        "The token is of another tenant than PARTNER_TENANT_ID.",
        "Set PARTNER_APP_CLIENT_ID to an app that trusts the identity and that the partner tenant has taken in, or correct "
        "PARTNER_TENANT_ID.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "token_opaque": CatalogueEntry(
        "The token cannot be looked into, so its roles are not known.",
        "Nothing to do: the check of Graph tells.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "no_identity_needed": CatalogueEntry(
        "No token is sent: the service is on loopback, or reached by a connection string.",
        "Nothing to do.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "not_in_use": CatalogueEntry(
        "The settings do not use this service.", "Nothing to do.", not_done=ONLY_TOLD, retried=LOOK
    ),
    "container_missing": CatalogueEntry(
        "The landing container does not exist yet, so that writing could not be tried.",
        "Create it, or let the first run do so if its identity may; then look again.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "probe_not_found": CatalogueEntry(
        "What was written could not be read back as it was.",
        "Look for something between app and storage that keeps answers; then look again.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "tables_forbidden": CatalogueEntry(
        "The landing account refused the app its tables.",
        "Give the identity Storage Table Data Contributor on the landing account.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "tables_unreachable": CatalogueEntry(
        "The tables of the landing account did not answer as tables do.",
        "Look at the account's firewall and private endpoints, and at LANDING_STORAGE__tableServiceUri.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "copy_refused": CatalogueEntry(
        "The landing account may not fetch Microsoft's files by itself; runs stream them through the app instead.",
        "Set the account's permitted scope for copy operations to any storage account, or COPY_MODE to stream.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "copy_untried": CatalogueEntry(
        "Whether the landing account may fetch Microsoft's files can be tried only with an export that Microsoft still knows.",
        "Look again after the next run.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "copy_not_in_use": CatalogueEntry(
        "Files pass through the app, which reads every byte to prove it: the account need not fetch them itself.",
        "Nothing to do.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "host_storage_forbidden": CatalogueEntry(
        "The app's own storage refused the way in that AzureWebJobsStorage gives.",
        "Give the identity Storage Blob Data Owner, Queue Data Contributor and Table Data Contributor on that account.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "host_storage_unreachable": CatalogueEntry(
        "A service of the app's own storage did not answer.",
        "Look at its firewall, its private endpoints (blob, queue and table) and at the names in AzureWebJobsStorage.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "host_storage_unknown": CatalogueEntry(
        "AzureWebJobsStorage is not set, or in a form that is not looked into.",
        "Nothing to do where functions start.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "clock_skewed": CatalogueEntry(
        "The machine's clock and that of storage differ.",
        "Set the machine's clock; on Azure, restart the app, and report it if it lasts.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "clock_unknown": CatalogueEntry(
        "Storage did not say what time it is.",
        "See the check of the landing container.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "region_unknown": CatalogueEntry(
        "No request tells in which region a storage account lies.",
        "Compare the landing account's region with the app's in the portal: copies within one region are fastest.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "settings_contradict": CatalogueEntry(
        "Settings that are right by themselves contradict each other.",
        "Correct what `contradictions` names.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "settings_invalid": CatalogueEntry(
        "The settings are wrong, and the app does not start with them.",
        "Correct what `faults` names.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "bundle_too_old": CatalogueEntry(
        "host.json allows an extension bundle without orchestration versions.",
        "Set its version to [4.30.0, 5.0.0): a deployment could break what runs otherwise.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "versions_differ": CatalogueEntry(
        "Other versions are installed than the ones that were tested.",
        "Deploy again with a remote build, so that requirements.txt is installed; on a laptop: make setup.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "versions_unknown": CatalogueEntry(
        "host.json or requirements.txt cannot be read here.",
        "Deploy again: both belong to the package.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "explained_elsewhere": CatalogueEntry(
        "It could not be told, because of what another check has found.",
        "Correct what that check names; then look again.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    "check_failed": CatalogueEntry(
        "The check itself failed, or took too long.",
        "Look again; if it lasts, look at the app's log around the time.",
        not_done=ONLY_TOLD,
        retried=LOOK,
    ),
    # the platform and the operator
    "deadline_passed": CatalogueEntry(
        "The export was not ready within RUN_DEADLINE_HOURS.",
        "Ask again, or raise RUN_DEADLINE_HOURS.",
    ),
    "cancelled": CatalogueEntry(
        "Somebody cancelled the run.",
        "Ask again when wanted: a new run carries on.",
        not_done=NOT_SHOWN,
    ),
    "platform_fault": CatalogueEntry(
        "The platform failed several times in a row: a worker, the task hub or the tables.",
        "Look at the app's exceptions around the time; ask again: what is proven is not copied again.",
    ),
    "run_lost": CatalogueEntry(
        "The orchestration ended, or was lost, without saying how.",
        "Ask again: what is proven is not copied again.",
    ),
    "terminated": CatalogueEntry(
        "Somebody terminated the orchestration by hand.",
        "To stop a run, cancel it. Ask again when wanted.",
    ),
}


def remedy(code: str) -> str:
    """What a person does about `code`, or where to look if it is not in the catalogue."""
    return (
        CATALOGUE[code].remedy if code in CATALOGUE else "Look at the run's row and the app's log."
    )


def cause(code: str) -> str:
    return CATALOGUE[code].cause if code in CATALOGUE else "Unknown."


class BillingExportError(Exception):
    """`request_id` is Microsoft's, where it sent one. Nothing of an answer's text is kept."""

    def __init__(
        self,
        code: str,
        *,
        http_status: int | None = None,
        error_code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        assert code in CATALOGUE, code
        self.code, self.http_status, self.error_code, self.request_id = (
            code,
            http_status,
            error_code,
            request_id,
        )
        super().__init__(f"{code}: {CATALOGUE[code].cause} {CATALOGUE[code].remedy}")


class TransientError(BillingExportError):
    """`retry_after_seconds` is what the answer asked for; None = it named no wait."""

    def __init__(
        self,
        code: str,
        *,
        retry_after_seconds: int | None = None,
        http_status: int | None = None,
        error_code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(
            code, http_status=http_status, error_code=error_code, request_id=request_id
        )
        self.retry_after_seconds = retry_after_seconds


class ThrottledError(TransientError):
    pass


class UnavailableError(TransientError):
    pass


class PermanentError(BillingExportError):
    pass


class OperationGoneError(PermanentError):
    pass


class RequestRefusedError(PermanentError):
    pass


class InvalidDataError(PermanentError):
    """`detail` is one short sentence of ours on the rule that was broken; it never quotes what broke it."""

    def __init__(self, code: str, detail: str, *, request_id: str | None = None) -> None:
        super().__init__(code, request_id=request_id)
        self.detail = detail


class InfrastructureError(Exception):
    """All that leaves a wall of an unexpected exception. The words of a library may hold signed URLs: they stay behind."""

    def __init__(
        self,
        code: str,
        type_name: str,
        http_status: int | None = None,
        error_code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        self.code, self.type_name, self.http_status, self.error_code, self.request_id = (
            code,
            type_name,
            http_status,
            error_code,
            request_id,
        )
        facts = (("status", http_status), ("error_code", error_code), ("request_id", request_id))
        super().__init__(
            " ".join(
                [
                    code,
                    type_name,
                    *(f"{name} {value}" for name, value in facts if value is not None),
                ]
            )
        )
