"""Partner Center's invoice list: which invoices there are. Knows of HTTP and JSON; nothing of runs or landings."""
