"""A plain HTTP client for the simulator, for requests that no SDK can send."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

PATHS = {
    "billed_usage": "usage/billed",
    "unbilled_usage": "usage/unbilled",
    "billed_reconciliation": "reconciliation/billed",
    "unbilled_reconciliation": "reconciliation/unbilled",
}


@dataclass(frozen=True)
class Reply:
    """A response with its complete body."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Caller:
    """Sends requests to Graph and Partner Center."""

    session: aiohttp.ClientSession
    base_url: str
    version: str = "v1.0"

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        url = path if path.startswith("http") else self.base_url + path
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if method == "POST":
            headers = {"Content-Type": "application/json", **headers}
        async with self.session.request(
            method, URL(url, encoded=True), data=data, headers=headers, allow_redirects=False
        ) as response:
            return Reply(response.status, response.headers, await response.read())

    async def start(self, dataset: str, body: Any, action: str = "export", **headers: str) -> Reply:
        return await self.call(
            "POST",
            f"/{self.version}/reports/partners/billing/{PATHS[dataset]}/{action}",
            body,
            **headers,
        )

    async def start_key(self, key: str, current_month: str) -> Reply:
        dataset, *scope, attribute_set = key.split("/")
        if len(scope) == 1:
            return await self.start(dataset, {"invoiceId": scope[0], "attributeSet": attribute_set})
        period = "current" if scope[0] == current_month else "last"
        return await self.start(
            dataset,
            {"billingPeriod": period, "currencyCode": scope[1], "attributeSet": attribute_set},
        )

    async def poll(self, started: Reply) -> Reply:
        operation_id = urlsplit(started.headers["Location"]).path.rsplit("/", 1)[-1]
        return await self.call(
            "GET", f"/{self.version}/reports/partners/billing/operations/{operation_id}"
        )

    async def wait_for_end(self, started: Reply) -> Reply:
        """Poll without delay until the operation has ended or has expired."""
        for _ in range(50):
            reply = await self.poll(started)
            if (
                reply.status != 200
                or "resourceLocation" in str(reply.json)
                or "error" in reply.json
            ):
                return reply
        raise AssertionError("The operation did not end after 50 polls.")
