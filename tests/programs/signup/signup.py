"""Sign up a member: an account, a mailbox, a welcome letter."""

from pathlib import Path

from sagadsl import IRREVERSIBLE, Retry, saga, step


def delete_account(name):
    Path("accounts", name).unlink(missing_ok=True)


@step(compensate=delete_account)
def create_account(name: str) -> str:
    """Create an account."""
    if "/" in name:
        raise ValueError(f"{name!r} is no name")
    Path("accounts").mkdir(exist_ok=True)
    Path("accounts", name).touch()
    return f"{name}@here"


def delete_mailbox(address=None, *, name):
    Path("mailboxes", f"{name}@here").unlink(missing_ok=True)


@step(compensate=delete_mailbox)
def create_mailbox(name: str, address: str) -> None:
    Path("mailboxes").mkdir(exist_ok=True)
    Path("mailboxes", address).touch()


def post(address, letter):
    """Hand a letter to the post."""
    Path("letters").mkdir(exist_ok=True)
    Path("letters", address).write_text(letter)


@step(compensate=IRREVERSIBLE, retries=Retry(2, wait=0))
def welcome(address: str) -> None:
    post(address, "Welcome!")


@saga(key="{name}")
def sign_up(name: str) -> str:
    address = create_account(name)
    create_mailbox(name, address)
    welcome(address)
    return address
