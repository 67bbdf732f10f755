"""Partner Center's invoice list, against answers from a script: no network."""
