"""The client of the payment service: HTTP with a timeout and an ``Idempotency-Key``, as one would write it anyway."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

from attrs import frozen

from sagadsl.examples.order.bank import Bank
from sagadsl.examples.order.stage import effect, stage

PATIENCE = 30.0
"""Seconds to wait for an answer, where nobody chose to wait for less."""

_direct = build_opener(ProxyHandler({}))  # the service is on this machine, whatever proxy the environment names
_banks: list[Bank] = []


class CardDeclined(Exception):  # noqa: N818  # the service's word for it
    """402: trying again would not help."""


class ServiceBusy(Exception):  # noqa: N818  # the service's word for it
    """503: trying again helps."""


@frozen
class Payment:
    """Money taken."""

    number: int
    amount: Decimal


def charge(order_id: str, amount: Decimal, key: str) -> Payment:
    """Take money, once for each key.

    Raises:
        CardDeclined: The service answered 402.
        ServiceBusy: The service answered 503.
        TimeoutError: It did not answer in time, so nobody knows whether the money was taken.
    """
    with effect("charge_payment") as tell:
        wanted = {"order_id": order_id, "amount": str(amount)}
        status, answer = _ask("POST", "/payments", key, wanted, patience=stage.patience)
        payment = Payment(answer["number"], Decimal(answer["amount"]))
        is_new = status == 201  # noqa: PLR2004  # HTTP's own
        tell(f"{amount} {'taken' if is_new else 'already taken'}, payment {payment.number}", changed=is_new)
    return payment


def refund(key: str) -> None:
    """Give back what was taken under a key, if anything was; nothing can be taken under it afterwards."""
    with effect("refund_payment") as tell:
        _, answer = _ask("POST", "/refunds", key, {})
        amount = answer["refunded"]
        tell(f"{amount} given back" if amount else "nothing was taken", changed=bool(amount))


def books() -> list[tuple[str, str, str]]:
    """Return each payment as the service has it: order, amount, state."""
    return [tuple(row) for row in _ask("GET", "/payments")[1]["payments"]]


def _ask(method: str, path: str, key: str = "", body: Any = None, *, patience: float = PATIENCE) -> tuple[int, Any]:
    """Send a request; return the status and the answer."""
    asked = f"{method} {path}"
    data = None if body is None else json.dumps(body).encode()
    headers = {"Idempotency-Key": quote(key), "Content-Type": "application/json"}
    request = Request(f"{_address()}{path}", data, headers, method=method)  # noqa: S310  # http, by construction
    try:
        with _direct.open(request, timeout=patience) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            why = json.load(error)["error"]
        known = {402: CardDeclined, 503: ServiceBusy}
        if error.code in known:
            print(f"  {asked:18} {error.code} {why}", flush=True)
            raise known[error.code](why) from None
        raise
    except TimeoutError:
        print(f"  {asked:18} no answer within {patience:g} s", flush=True)
        raise


def _address() -> str:
    """Return where the service listens; it is started when it is first needed."""
    if not _banks:
        _banks.append(Bank(stage.folder / "payments.db", stage.payment))
    return _banks[0].address


def close() -> None:
    """Stop the service. Its books stay."""
    while _banks:
        _banks.pop().stop()
