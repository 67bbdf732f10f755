"""The simulator as a program: `python -m local.simulator --port 0 --seed 7 --storage-connection-string-env BILLING_STORAGE`."""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from local.simulator import Behaviour, BillingStorage, Faults, Partner, Simulator


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local.simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 = a free port")
    parser.add_argument(
        "--seed",
        type=int,
        default=7,
        help="the same seed gives the same partner, invoices and lines",
    )
    parser.add_argument("--faults", type=Path, metavar="FILE", help="rules as JSON, see README.md")
    parser.add_argument(
        "--behaviour", nargs="+", default=[], metavar="SWITCH=VALUE", action="extend"
    )
    parser.add_argument("--currencies", default="USD", help="comma list, e.g. USD,EUR")
    parser.add_argument("--customers", type=int, default=6)
    parser.add_argument(
        "--storage-proxy",
        action="store_true",
        help="root directories name a proxy, in which reads can fail",
    )
    parser.add_argument(
        "--storage-connection-string-env",
        required=True,
        metavar="NAME",
        help="variable with the billing account's connection string",
    )
    given = parser.parse_args(arguments)
    connection_string = os.environ.get(given.storage_connection_string_env)
    if not connection_string:
        parser.error(f"the variable {given.storage_connection_string_env} is not set")
    try:
        simulator = Simulator(
            storage=BillingStorage(connection_string),
            seed=given.seed,
            behaviour=Behaviour().with_text(*given.behaviour),
            faults=Faults.from_file(given.faults) if given.faults else None,
            storage_proxy=given.storage_proxy,
            partner=Partner(
                currencies=tuple(given.currencies.split(",")), customers=given.customers
            ),
        )
    except (ValueError, OSError, TypeError) as wrong:
        parser.error(str(wrong))
    return serve(simulator, given.port)


def serve(simulator: Simulator, port: int) -> int:
    """Until SIGTERM or SIGINT."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with simulator.serving(port) as base_url:
        known = ", ".join(
            f"{invoice.invoice_id} {invoice.currency}" for invoice in simulator.invoices()
        )
        print(f"Partner {simulator.partner.tenant_id}; invoices: {known}", flush=True)
        print(f"Storage {simulator.storage_origin}", flush=True)
        print(f"Listening on {base_url}", flush=True)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
