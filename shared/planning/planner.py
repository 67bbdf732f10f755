"""Reads what planning needs: the invoices, and what the catalogue knows of each export key."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import date, datetime

from shared.errors import RequestRefusedError, TransientError
from shared.exports import BillingMonth, Dataset
from shared.invoices import Invoice, InvoiceList, LeftOut
from shared.ledger.keys import started_at
from shared.ledger.ledger import Ledger
from shared.messages import WaitingResult
from shared.planning.due import Due, KnownKey, select_due
from shared.planning.gaps import KeyState, Scopes
from shared.planning.waits import wait_seconds
from shared.settings import Settings

MAX_LIST_WAIT_SECONDS = 3600  # if the list is not available sooner, the known invoices are used


class Planner:
    """Combines settings, invoices and catalogue; the rules are in `due` and `gaps`.

    `fetch_invoices` reads the list from Partner Center. It is called only if `INVOICE_SOURCE`
    requires it. `publish_tie_outs` is called whenever a new list has been stored.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        fetch_invoices: Callable[[], Awaitable[InvoiceList]],
        publish_tie_outs: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings, self._ledger, self._fetch_invoices = settings, ledger, fetch_invoices
        self._publish_tie_outs = publish_tie_outs

    async def list_invoices(
        self, *, attempt: int, is_last_attempt: bool
    ) -> InvoiceList | WaitingResult:
        """Return the invoices from the configured source, and those of `INVOICE_IDS`.

        If the source is not available, the function returns a wait. After the last attempt, it
        returns the previously stored invoices and puts the error code in `left_out`. It adds the
        stored invoices to a list that is not complete. `attempt` starts at 1.
        """
        match self._settings.invoice_source:
            case "none":
                return InvoiceList()
            case "list":
                return self._with_requested(InvoiceList())
            case "partner_center":
                try:
                    listed = await self._fetch_invoices()
                except TransientError as error:
                    seconds = wait_seconds(error.retry_after_seconds, attempt)
                    if not is_last_attempt and seconds <= MAX_LIST_WAIT_SECONDS:
                        return {"status": "waiting", "wait_seconds": seconds}
                    code = error.code
                except RequestRefusedError as error:
                    code = error.code
                else:
                    listed = replace(
                        listed, invoices=await self._ledger.invoices.save(listed.invoices)
                    )
                    await self._publish_tie_outs()
                    if listed.complete:
                        return self._with_requested(listed)
                    return self._with_requested(await self._add_known(listed))
        failed = InvoiceList(left_out=(LeftOut(code=code),), complete=False)
        return self._with_requested(await self._add_known(failed))

    async def _add_known(self, listed: InvoiceList) -> InvoiceList:
        """Add the stored invoices that a list does not contain."""
        ids = {invoice.invoice_id for invoice in listed.invoices}
        known = await self._ledger.invoices.list()
        more = tuple(invoice for invoice in known if invoice.invoice_id not in ids)
        return replace(listed, invoices=listed.invoices + more)

    def _with_requested(self, listed: InvoiceList) -> InvoiceList:
        """Mark the invoices of `INVOICE_IDS`, and add those that the list does not contain."""
        requested = dict.fromkeys(self._settings.invoice_ids)
        invoices = [
            replace(invoice, is_requested=invoice.invoice_id in requested)
            for invoice in listed.invoices
        ]
        ids = {invoice.invoice_id for invoice in invoices}
        invoices += [Invoice(each, is_requested=True) for each in requested if each not in ids]
        return replace(listed, invoices=tuple(invoices))

    async def list_known_invoices(self) -> InvoiceList:
        """Return the invoices of the last list that was read, without a request to Microsoft."""
        return self._with_requested(InvoiceList(tuple(await self._ledger.invoices.list())))

    async def select_due(self, tick: datetime, invoices: InvoiceList) -> Due:
        """Return the exports that are due at `tick`."""
        known: dict[str, KnownKey] = {}
        for dataset in self._settings.export_datasets:
            if dataset.billed:
                async for entry in self._ledger.catalogue.list_by_dataset(dataset):
                    settles_on = date.fromisoformat(entry.settles_on) if entry.settles_on else None
                    started = started_at(entry.last_run_id) if entry.last_run_id else None
                    is_damaged = entry.damaged_version != ""
                    known[entry.key] = KnownKey(settles_on, started, entry.last_outcome, is_damaged)
        return select_due(self._settings, tick, invoices, known)

    async def is_month_billed(self, month: BillingMonth) -> bool:
        """Return whether billed usage of `month` has landed.

        Until then, Microsoft may not export unbilled data of the first days of the next month.
        """
        entries, _ = await self._ledger.catalogue.get_page(
            Dataset.BILLED_USAGE, billing_month=str(month), limit=1
        )
        return any(entry.version or entry.damaged_version for entry in entries)

    def scopes(self, invoices: InvoiceList) -> Scopes:
        """Return the invoices, currencies and attribute sets for which exports can be requested.

        Without `EXPORT_CURRENCIES`, the currencies are those of all new-commerce invoices.
        """
        learned = [
            invoice.currency
            for invoice in invoices.invoices
            if invoice.currency and not invoice.legacy
        ]
        return Scopes(
            invoices.invoices,
            self._settings.export_currencies or tuple(dict.fromkeys(learned)),
            self._settings.export_attribute_sets,
        )

    async def key_states(self, datasets: Iterable[Dataset]) -> dict[str, KeyState]:
        """Return the state of every catalogued export key of `datasets`, by key."""
        return {
            entry.key: (
                KeyState(outcome="failed", code="version_damaged")
                if entry.damaged_version
                else KeyState(entry.version, entry.last_outcome, entry.last_code)
            )
            for dataset in datasets
            async for entry in self._ledger.catalogue.list_by_dataset(dataset)
        }
