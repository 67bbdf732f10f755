"""A run with `PROOF=transfer`, from the request to the documents."""

import json

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from tests.support.app_environment import AppEnvironment


def test_proof_mode_transfer_reports_unknown_rows_everywhere(azurite: Azurite) -> None:
    with AppEnvironment(azurite, behaviour=Behaviour(ready_after_polls=0), PROOF="transfer") as env:
        run = env.land("billed_usage")
        assert (run["outcome"], run["rows"]) == ("landed", None)
        assert run["bytes"] > 0 and run["blobs"]["landed"] == run["blobs"]["total"] > 0
        [entry] = env.get("/api/catalogue?dataset=billed_usage")["entries"]
        assert (entry["version"], entry["rows"]) == (run["version"], None)
        files = env.landed_files()
        [latest] = [
            json.loads(body) for path, body in files.items() if path.endswith("latest.json")
        ]
        marker = json.loads(files[f"{run['path']}/_manifest.json"])
        assert latest["rows"] is None and marker["totals"]["rows"] is None
        assert {(blob["rows"], blob["encoding"]) for blob in marker["blobs"]} == {(None, None)}
        assert all(blob["md5"] for blob in marker["blobs"])
        assert env.land("billed_usage")["outcome"] == "unchanged"
