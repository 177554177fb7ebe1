"""How a user tests a saga: the steps as the functions they are, then the whole, with failures put in by monkeypatch."""

import pytest
import signup

import sagadsl


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder of its own, with an empty store."""
    monkeypatch.chdir(tmp_path)
    sagadsl.configure(store=":memory:")
    return tmp_path


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))


def test_a_step_is_a_plain_function(folder):
    assert signup.create_account("ada") == "ada@here"
    assert names(folder) == ["accounts/ada"]
    signup.delete_account("ada")
    assert names(folder) == []
    assert sagadsl.runs() == []


def test_a_bad_name_is_refused():
    with pytest.raises(ValueError, match="no name"):
        signup.create_account("a/da")


def test_a_member_signs_up(folder):
    assert signup.sign_up("ada") == "ada@here"
    assert names(folder) == ["accounts/ada", "letters/ada@here", "mailboxes/ada@here"]


def test_the_post_is_down_and_nothing_is_left(folder, monkeypatch):
    tried = []

    def down(address, letter):
        tried.append(address)
        raise ConnectionError("the post is down")

    monkeypatch.setattr(signup, "post", down)
    with pytest.raises(ConnectionError, match="down"):
        signup.sign_up("ada")
    assert len(tried) == 3
    assert names(folder) == []
    assert [step.status for step in sagadsl.runs()[0].steps] == ["compensated", "compensated", "failed"]


def test_the_post_comes_back(folder, monkeypatch):
    outcomes = iter([ConnectionError, ConnectionError, None])

    def flaky(address, letter):
        error = next(outcomes)
        if error:
            raise error("the post is down")

    monkeypatch.setattr(signup, "post", flaky)
    assert signup.sign_up("ada") == "ada@here"


def test_a_step_itself_is_replaced(folder, monkeypatch):
    def full(name, address):
        raise OSError("disk full")

    monkeypatch.setattr(signup, "create_mailbox", full)
    outcome = signup.sign_up.outcome("ada")
    assert isinstance(outcome, sagadsl.Compensated)
    assert names(folder) == []


def test_what_was_cut_off_goes_on(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(signup, "post", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            signup.sign_up("ada")
    assert names(folder) == ["accounts/ada", "mailboxes/ada@here"]
    assert signup.sign_up("ada") == "ada@here"
    assert names(folder) == ["accounts/ada", "letters/ada@here", "mailboxes/ada@here"]
