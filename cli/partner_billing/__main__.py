"""Entry point for `python -m partner_billing`."""

from partner_billing.commands import main

main()
