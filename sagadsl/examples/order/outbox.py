"""The outbox: a folder of mails, each a real ``.eml`` file that any mail program opens.

A mail's file is named after the key it was sent under, so sending it again is finding it. It appears under that name
in one piece, or not at all.
"""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import formatdate
from hashlib import blake2b
from pathlib import Path

from attrs import frozen

from sagadsl import Fault
from sagadsl.examples.order.stage import effect, stage

SHOP = "shop@example.org"
CUSTOMER = "customer@example.org"


@frozen
class Mail:
    """A mail that was sent: its file's name, without the suffix."""

    name: str


def send_confirmation(order_id: str, key: str) -> Mail:
    """Tell the customer that the order is placed, once for each key."""
    with effect("send_confirmation") as tell:
        mail = find(key)
        if mail is None:
            sent = _send(_name(key), f"Order {order_id} is confirmed", "Thank you. Your order is on its way.\n")
            tell(f"{sent.name}.eml")
        else:
            sent = mail
            tell(f"{sent.name}.eml already sent", changed=False)
    return sent


def send_cancellation(order_id: str, error: Fault | None, confirmation: Mail | None) -> None:
    """Tell the customer that the order is cancelled; without a confirmation there is nothing to take back."""
    with effect("send_cancellation") as tell:
        if confirmation is None:
            tell("no confirmation was sent", changed=False)
            return
        name = f"{confirmation.name}-cancelled"
        is_new = not _path(name).exists()
        if is_new:
            text = f"Your money is on its way back.\nThe reason: {error or 'you asked us to'}.\n"
            _send(name, f"Order {order_id} is cancelled", text, answers=confirmation)
        tell(f"{name}.eml{'' if is_new else ' already sent'}", changed=is_new)


def find(key: str) -> Mail | None:
    """Return the mail that was sent under a key, if one was."""
    name = _name(key)
    return Mail(name) if _path(name).exists() else None


def mails() -> list[str]:
    """Return the names of the mails that were sent."""
    return sorted(path.stem for path in _path("").parent.glob("*.eml"))


def _name(key: str) -> str:
    return key.replace("/", "-")


def _path(name: str) -> Path:
    return stage.folder / "outbox" / f"{name}.eml"


def _id(name: str) -> str:
    return f"<{blake2b(name.encode(), digest_size=8).hexdigest()}@example.org>"


def _send(name: str, subject: str, text: str, answers: Mail | None = None) -> Mail:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SHOP, CUSTOMER, subject
    message["Date"], message["Message-ID"] = formatdate(), _id(name)
    if answers is not None:
        message["In-Reply-To"] = _id(answers.name)
    message.set_content(text, cte="8bit")
    path = _path(name)
    path.parent.mkdir(exist_ok=True)
    unsent = path.with_suffix(".unsent")
    unsent.write_bytes(message.as_bytes())
    unsent.rename(path)
    return Mail(name)
