"""An API that answers from a script, and the program as it is typed."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from partner_billing import commands, common

KEY = "SENTINEL-function-key"
URL = "https://app.example.org"


def answer(
    status: int, body: Any = None, kind: str = "application/json", **headers: str
) -> httpx.Response:
    sent = {
        "Content-Type": kind,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return httpx.Response(
        status, content=b"" if body is None else json.dumps(body).encode(), headers=sent
    )


def problem(
    status: int, code: str, title: str = "No.", remedy: str = "Do this.", **members: Any
) -> httpx.Response:
    return answer(
        status,
        {
            "type": "about:blank",
            "title": title,
            "status": status,
            "code": code,
            "remedy": remedy,
            **members,
        },
        "application/problem+json",
    )


@dataclass
class Scripted:
    """Answers in order; the last one again and again. `slept` is what it waited in between."""

    answers: list[httpx.Response | Exception] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, Exception):
            raise said
        return httpx.Response(said.status_code, headers=said.headers, content=said.content)

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.requests]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """In place of the network and of waiting, at the seams that the commands have for it."""
    script = Scripted()
    monkeypatch.setenv("PARTNER_BILLING_URL", URL)
    monkeypatch.setenv("PARTNER_BILLING_KEY", KEY)
    monkeypatch.setattr(common, "sleep", script.slept.append)
    monkeypatch.setattr(common, "transport", httpx.MockTransport(script))
    return script


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Types a command. The key is in nothing that it says."""

    def typed(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as end:
            commands.main(list(arguments))
        said = capsys.readouterr()
        assert KEY not in said.out + said.err
        return Ended(int(end.value.code or 0), said.out, said.err)

    return typed


def a_run(**changes: Any) -> dict[str, Any]:
    return {
        "run_id": "billed-usage-g1-full-20261108t093700z",
        "key": "billed_usage/G1/full",
        "dataset": "billed_usage",
        "invoice_id": "G1",
        "stage": "starting",
        "outcome": None,
        "code": None,
        "cause": None,
        "remedy": None,
        "started_at": "2026-11-08T09:37:00Z",
        "blobs": {"total": 0, "landed": 0, "failed": 0},
        "bytes": 0,
        "rows": 0,
        "path": None,
        **changes,
    }
