"""A user's own tests of a saga, run by pytest as the user runs them; and they find what is wrong with the saga."""

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "user_tests.py")


def test_the_users_tests_pass_also_after_one_was_killed(program):
    """A pytest that is killed in the middle leaves nothing that the next one stumbles over."""
    program.run(*PYTEST, kill="create_mailbox:done")
    assert "7 passed" in program.run(*PYTEST)
    assert not program.store.exists()


def test_the_users_tests_find_a_compensation_that_forgets(program):
    """Three of them see that an account is left."""
    code, right = program.text("signup.py"), 'Path("accounts", name).unlink(missing_ok=True)'
    assert right in code
    (program.folder / "signup.py").write_text(code.replace(right, "pass"))
    assert "3 failed, 4 passed" in program.run(*PYTEST, ends=1)
