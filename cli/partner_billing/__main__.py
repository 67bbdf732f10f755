"""`python -m partner_billing`, where the script is not on the path."""

from partner_billing.commands import main

main()
