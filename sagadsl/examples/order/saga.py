"""The order: five steps, what undoes each of them, and the saga that calls them.

Every effect carries the step's idempotency key. So a step that is entered again after a kill finds what it did before,
and a compensation finds what there is to undo even where the step was cut off and left no result.
"""

from decimal import Decimal

from attrs import frozen

from sagadsl import IRREVERSIBLE, Compensation, Fault, Retry, current, saga, step
from sagadsl.examples.order import outbox, payments, shop
from sagadsl.examples.order.outbox import Mail
from sagadsl.examples.order.payments import Payment
from sagadsl.examples.order.shop import Delivery, Reservation

AUDITED_ABOVE = 1000


@frozen
class Order:
    """What the customer gets."""

    reservation: Reservation
    payment: Payment
    delivery: Delivery


def release_inventory(idempotency_key: str) -> None:
    """Put the goods back on the shelf."""
    shop.release(idempotency_key)


@step(compensate=release_inventory)
def reserve_inventory(item: str, quantity: int) -> Reservation:
    """Set the goods aside."""
    return shop.reserve(item, quantity, current().idempotency_key)


def refund_payment(idempotency_key: str) -> None:
    """Give the money back."""
    payments.refund(idempotency_key)


# An answer that never came says nothing about the money: so the refund is also called when the step failed.
@step(
    compensate=Compensation(refund_payment, even_if_failed=True),
    retries=Retry(3, on=(payments.ServiceBusy, TimeoutError), wait=0.1),
)
def charge_payment(order_id: str, amount: Decimal) -> Payment:
    """Take the money."""
    return payments.charge(order_id, amount, current().idempotency_key)


@step(compensate=IRREVERSIBLE)
def audit(order_id: str, amount: Decimal) -> None:
    """Note a large order in the audit trail, from which nothing is ever deleted."""
    shop.note(f"order {order_id} of {amount}", current().idempotency_key)


def send_cancellation(
    order_id: str, idempotency_key: str, error: Fault | None, confirmation: Mail | None = None
) -> None:
    """Tell the customer why, if the confirmation went out: where the step was cut off, the outbox knows."""
    outbox.send_cancellation(order_id, error, confirmation or outbox.find(idempotency_key))


@step(compensate=send_cancellation)
def send_confirmation(order_id: str) -> Mail:
    """Write to the customer."""
    return outbox.send_confirmation(order_id, current().idempotency_key)


def cancel_delivery(idempotency_key: str) -> None:
    """Call the courier off."""
    shop.cancel_delivery(idempotency_key)


@step(compensate=cancel_delivery)
def schedule_delivery(order_id: str) -> Delivery:
    """Call the courier."""
    return shop.schedule_delivery(order_id, current().idempotency_key)


@saga(key="{order_id}")
def place_order(order_id: str, item: str, quantity: int, amount: Decimal) -> Order:
    """Place an order."""
    reservation = reserve_inventory(item, quantity)
    payment = charge_payment(order_id, amount)
    if amount > AUDITED_ABOVE:
        audit(order_id, amount)
    send_confirmation(order_id)
    delivery = schedule_delivery(order_id)
    return Order(reservation, payment, delivery)
