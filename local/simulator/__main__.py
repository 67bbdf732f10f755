"""Runs the simulator as a program.

python -m local.simulator --port 0 --seed 7 --storage-connection-string-env BILLING_STORAGE
"""

import argparse
import os
import sys
from pathlib import Path

from local.host.stop_requests import StopRequests
from local.simulator import Behaviour, BillingStorage, Faults, Partner, Simulator


def main(arguments: list[str] | None = None) -> int:
    """Run the simulator until SIGTERM or SIGINT and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m local.simulator",
        description="Simulates the Microsoft services for partner billing.",
    )
    parser.add_argument("--port", type=int, default=0, help="port; 0 selects a free port")
    parser.add_argument(
        "--seed",
        type=int,
        default=7,
        help="seed that determines the partner, its invoices and their lines",
    )
    parser.add_argument(
        "--faults", type=Path, metavar="FILE", help="file with fault rules; see README.md"
    )
    parser.add_argument(
        "--behaviour", nargs="+", default=[], metavar="SWITCH=VALUE", action="extend"
    )
    parser.add_argument(
        "--currencies", default="USD", help="comma-separated currencies, for example USD,EUR"
    )
    parser.add_argument("--customers", type=int, default=6)
    parser.add_argument(
        "--storage-proxy",
        action="store_true",
        help="serve blobs through a proxy that applies fault rules",
    )
    parser.add_argument(
        "--storage-connection-string-env",
        required=True,
        metavar="NAME",
        help="environment variable that contains the connection string of the billing account",
    )
    options = parser.parse_args(arguments)
    connection_string = os.environ.get(options.storage_connection_string_env)
    if not connection_string:
        parser.error(
            f"The environment variable {options.storage_connection_string_env} is not set."
        )
    try:
        simulator = Simulator(
            storage=BillingStorage(connection_string),
            seed=options.seed,
            behaviour=Behaviour().with_switches(*options.behaviour),
            faults=Faults.from_file(options.faults) if options.faults else None,
            storage_proxy=options.storage_proxy,
            partner=Partner(
                currencies=tuple(options.currencies.split(",")), customers=options.customers
            ),
        )
    except (ValueError, OSError, TypeError) as error:
        parser.error(str(error))
    return serve(simulator, options.port)


def serve(simulator: Simulator, port: int) -> int:
    """Serve until SIGTERM or SIGINT."""
    stop_requests = StopRequests()
    stop_requests.install_signal_handlers()
    with simulator.serving(port) as base_url:
        invoices = ", ".join(
            f"{invoice.invoice_id} {invoice.currency}" for invoice in simulator.invoices()
        )
        print(f"Partner {simulator.partner.tenant_id}; invoices: {invoices}", flush=True)
        print(f"Storage {simulator.storage_origin}", flush=True)
        print(f"Listening on {base_url}", flush=True)
        stop_requests.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
