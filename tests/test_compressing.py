"""Large results are stored compressed where that was asked for, and mean the same."""

import contextlib
import json
import sqlite3
import zlib
from binascii import b2a_base64
from decimal import Decimal
from hashlib import blake2b, sha512

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sagadsl
from sagadsl._core.codec import LIMIT, Codec, Unstorable
from sagadsl._core.codec.compressing import Compressing
from sagadsl._core.codec.zlib_text import packed

LINES = [f"line {number} of many" for number in range(200)]


@attrs.frozen
class Report:
    lines: list[str]
    total: Decimal


@sagadsl.step(compensate=None)
def write(lines: list[str]) -> Report:
    return Report(lines, Decimal(len(lines)))


@sagadsl.saga(key="report")
def flow(fails: bool = False) -> Report:
    report = write(LINES)
    if fails:
        raise KeyboardInterrupt
    return report


def stored(path):
    """Return the results in a file, as they stand there."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("select kind, result from entries where kind in ('done', 'completed') order by seq")
        found = dict(rows.fetchall())
    connection.close()
    return found


def test_results_above_the_size_are_compressed_and_come_back_the_same(tmp_path):
    """Those of steps and of the saga; arguments stay legible."""
    runtime = sagadsl.Runtime(tmp_path / "x.db", compress_above=1000)
    with pytest.raises(KeyboardInterrupt):
        flow.using(runtime=runtime)(True)
    assert stored(tmp_path / "x.db")["done"].startswith('{"$zlib":')
    later = sagadsl.Runtime(tmp_path / "x.db")  # who reads need not have asked for it
    assert later.find("flow/report").steps[0].result == Report(LINES, Decimal(200))
    assert later.find("flow/report").steps[0].arguments == {"lines": LINES}
    again = sagadsl.Runtime(tmp_path / "x.db", compress_above=1000)
    with pytest.raises(KeyboardInterrupt):
        again.find("flow/report").resume()


def test_what_is_small_or_gets_no_smaller_stays_as_it_is():
    codec = Compressing(Codec(), 100)
    assert codec.encode_and_copy("a" * 98) == (f'"{"a" * 98}"', "a" * 98)
    assert codec.encode_and_copy("a" * 99)[0] == packed(f'"{"a" * 99}"')
    noise = sha512(b"seed").hexdigest()
    assert codec.encode_and_copy(noise) == (json.dumps(noise), noise)
    assert Compressing(Codec(), 0).encode_and_copy(True) == ("true", True)
    assert codec.encode("a" * 99) == f'"{"a" * 99}"'


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.binary(), st.lists))
def test_every_value_comes_back_through_either_codec(value):
    plain, small = Codec(), Compressing(Codec(), 0)
    text, copy = small.encode_and_copy(value)
    assert plain.decode(text) == small.decode(text) == copy == value
    assert len(text) <= len(plain.encode(value))


def test_what_one_codec_is_told_the_other_knows():
    codec = Codec()
    small = Compressing(codec, 0)
    codec.register(zlib.error, str, zlib.error)
    assert type(small.decode(small.encode_and_copy([zlib.error("x")] * 20)[0])[0]) is zlib.error


def test_a_result_that_landed_with_its_transaction_is_compressed_there_too(tmp_path):
    """A process that dies between the commit and the record reads it back from the other database."""
    runtime, deaths = sagadsl.Runtime(tmp_path / "x.db", compress_above=100), [1]
    journal = runtime.journal()
    append = journal.append

    def mortal(log, entry, full):
        if entry.kind == "done" and deaths.pop():
            raise KeyboardInterrupt
        append(log, entry, full)

    @sagadsl.step(transaction="db", compensate=None)
    def pay(db: sagadsl.Live[sqlite3.Connection]) -> list[str]:
        db.execute("insert into paid values ('lamp')")
        return LINES

    @sagadsl.saga(key="k")
    def order(db: sagadsl.Live[sqlite3.Connection]) -> list[str]:
        return pay(db)

    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as db:
        db.execute("create table paid (item text)")
        journal.append = mortal
        with pytest.raises(KeyboardInterrupt):
            order.using(runtime=runtime)(db)
        assert deaths == []
        (text,) = db.execute("select result from sagadsl_landed").fetchone()
        assert text.startswith('{"$zlib":')
        assert order.using(runtime=sagadsl.Runtime(tmp_path / "x.db"))(db) == LINES
        assert db.execute("select * from paid").fetchall() == [("lamp",)]


def test_a_result_with_a_file_or_a_note_stays_legible(tmp_path):
    """Both are looked for in the text: whether the file is still what it was, and whether the result still stands."""
    made = tmp_path / "made.txt"
    made.write_text("content", encoding="utf-8")
    codec = Compressing(Codec(), 0)
    assert '"$artifact"' in codec.encode_and_copy([sagadsl.Artifact(made)] * 50)[0]
    runtime = sagadsl.Runtime(tmp_path / "x.db", compress_above=0)

    @sagadsl.step(compensate=None)
    def noted() -> list[str]:
        sagadsl.current().note({"from": "here"})
        return LINES

    @sagadsl.saga
    def whole() -> list[str]:
        return noted()

    assert whole.using(runtime=runtime)() == LINES
    assert stored(tmp_path / "x.db")["done"].startswith('{"$noted":')
    assert runtime.runs()[0].steps[0].note == {"from": "here"}


def test_a_value_whose_class_is_gone_is_shown_as_it_was_stored(tmp_path):
    runtime = sagadsl.Runtime(tmp_path / "x.db", compress_above=0)
    flow.using(runtime=runtime)()
    text = Codec().encode(Report(LINES, Decimal(200))).replace("Report", "Gone")
    with sqlite3.connect(tmp_path / "x.db") as connection:
        values = (packed(text), blake2b(packed(text).encode(), digest_size=8).digest())
        connection.execute("update entries set result = ?, digest = ? where kind = 'done'", values)
    connection.close()
    shown = sagadsl.Runtime(tmp_path / "x.db").find("flow/report").steps[0].result
    assert shown == json.loads(text)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b2a_base64(b"no zlib").decode().strip(), "a compressed value that is damaged"),
        (b2a_base64(zlib.compress(b"x" * 50)[:-3], newline=False).decode(), "that is cut short, or has more than"),
        (b2a_base64(zlib.compress(b" " * (LIMIT + 1)), newline=False).decode(), "has more than 16,777,216 bytes"),
        ("!", "base64|padding"),
        (b2a_base64(zlib.compress(b"\xff\xfe"), newline=False).decode(), "decode"),
    ],
)
def test_a_compressed_text_that_is_none_is_refused(data, says):
    """Also one that would grow without end."""
    with pytest.raises(ValueError, match=says):
        Codec().decode(f'{{"$zlib":"{data}"}}')


def test_a_dictionary_that_looks_compressed_is_none():
    codec = Codec()
    assert codec.decode(codec.encode({"$zlib": "eJw="})) == {"$zlib": "eJw="}


def test_what_is_refused_is_refused_by_either():
    with pytest.raises(Unstorable):
        Compressing(Codec(), 0).encode_and_copy(object())


def test_the_setting_can_be_changed_and_taken_back(tmp_path):
    runtime = sagadsl.Runtime(tmp_path / "x.db")
    runtime.configure(compress_above=10)
    flow.using(runtime=runtime)()
    assert stored(tmp_path / "x.db")["completed"].startswith('{"$zlib":')
    runtime.configure(compress_above=None)
    flow.using(runtime=runtime, rerun=True)()
    assert runtime.find("flow/report").result == Report(LINES, Decimal(200))
