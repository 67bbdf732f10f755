"""Entry point of `python -m partner_billing`."""

from partner_billing.commands import main

main()
