"""A user's own tests of a saga, run by pytest as the user runs them; and they find what is wrong with the saga."""

import pytest

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "user_tests.py")


def test_the_users_tests_pass_also_after_one_was_killed(program):
    """A pytest that is killed in the middle leaves nothing that the next one stumbles over."""
    program.run(*PYTEST, kill="create_mailbox:done")
    assert "7 passed" in program.run(*PYTEST)
    assert not program.store.exists()


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        ('Path("accounts", name).unlink(missing_ok=True)', "pass", 3),
        ("retries=Retry(2, wait=0)", "retries=0", 2),
    ],
)
def test_the_users_tests_find_a_mistake(program, right, wrong, found):
    """A compensation that forgets, a step that gives up too soon."""
    code = program.text("signup.py")
    assert right in code
    (program.folder / "signup.py").write_text(code.replace(right, wrong))
    assert f"{found} failed" in program.run(*PYTEST, ends=1)
