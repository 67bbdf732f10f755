"""Conversion of HTTP requests and responses for functions with an HTTP trigger."""

from collections.abc import Callable
from typing import Any

import azure.functions as func
from azure.functions.meta import Datum

from .functions import AppFunction
from .http_messages import HostRequest, HostResponse


def request_datum(request: HostRequest, parameters: dict[str, str]) -> Datum:
    """Return the request in the form that the SDK's HTTP converter decodes."""

    def string_data(values: dict[str, str]) -> dict[str, Datum]:
        return {name: Datum(type="string", value=value) for name, value in values.items()}

    return Datum(
        type="http",
        value={
            "method": Datum(type="string", value=request.method),
            "url": Datum(type="string", value=request.url),
            "headers": string_data({name.lower(): value for name, value in request.headers}),
            "query": string_data(request.query),
            "params": string_data(parameters),
            "body": Datum(type="bytes", value=request.body),
        },
    )


def response_encoder(function: AppFunction) -> Callable[[Any], HostResponse]:
    """Return a function that converts the return value of `function` to an HTTP response.

    The conversion raises TypeError if the value does not match the bindings of the function.
    """

    def encode(result: Any) -> HostResponse:
        if not function.returns_http:
            if result is None:
                return HostResponse(204)
            raise TypeError(
                f"function '{function.name}' returned a value, but has no $return binding"
            )
        if result is None:
            # The wording is that of Azure's Python worker.
            raise TypeError(
                'unable to encode outgoing TypedData: unsupported type "http" '
                'for Python type "NoneType"'
            )
        return response_from_datum(
            func.get_binding_registry().get("http").encode(result, expected_type=None)
        )

    return encode


def response_from_datum(encoded: Datum) -> HostResponse:
    """Convert the output of the SDK's HTTP converter to a response."""
    if encoded.type == "string":
        return HostResponse(
            200, (("Content-Type", "text/plain; charset=utf-8"),), encoded.value.encode()
        )
    parts = encoded.value
    cookies = [
        ("Set-Cookie", morsel.OutputString())
        for cookie in parts["cookies"] or []
        for morsel in cookie.values()
    ]
    headers = [
        (name, datum.value)
        for name, datum in parts["headers"].items()
        if name.lower() != "content-length"
    ]
    return HostResponse(int(parts["status_code"].value), (*headers, *cookies), parts["body"].value)
