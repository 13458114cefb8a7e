"""The bar is there for who watches a terminal or asked for it, and for nobody else; what it counts is untouched."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from bayesinv.progress import bars, counted, over, steps, working


class Terminal(io.StringIO):
    """An error stream that is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Makes the error stream a terminal; to be called in the test, for pytest sets the streams anew before it."""

    def begin():
        stream = Terminal()
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    return begin


def test_items_are_yielded_in_order():
    for shown in (False, None, True):
        assert list(over(iter("abc"), "letters", 3, shown)) == ["a", "b", "c"]


def test_nothing_is_printed_without_a_terminal(capsys):
    list(over([1, 2], "numbers", 2))
    list(over([1, 2], "numbers", 2, shown=False))
    with working("thinking"):
        pass
    assert capsys.readouterr() == ("", "")


def test_the_final_state_is_printed_on_request(capsys):
    with steps("numbers", 7, shown=True) as advance:
        advance(3)
        advance(2)
    shown = capsys.readouterr()
    assert "numbers" in shown.out
    assert "5/7" in shown.out
    assert shown.err == ""


def test_on_a_terminal_the_bar_is_on_the_error_stream(terminal, monkeypatch):
    output, stream = io.StringIO(), terminal()
    monkeypatch.setattr("sys.stdout", output)
    with bars() as begin:
        first, second = begin("first", 2), begin("second", 3)
        first(2)
        second(1)
    with working("thinking"):
        pass
    printed = stream.getvalue()
    for word in ("first", "2/2", "second", "1/3", "thinking ..."):
        assert word in printed
    assert output.getvalue() == ""


def test_nothing_is_printed_on_a_terminal_if_silenced(terminal):
    stream = terminal()
    list(over([1, 2], "numbers", 2, shown=False))
    assert stream.getvalue() == ""
    list(over([1, 2], "numbers", 2))
    assert "numbers" in stream.getvalue()


def test_a_step_is_done_when_the_next_is_asked_for():
    done = []
    items = counted([1, 2], done.append)
    next(items)
    assert done == []
    next(items)
    assert done == [1]
    assert list(items) == []
    assert done == [1, 1]


def test_a_silent_bar_imports_no_library():
    words = (
        "import sys; from bayesinv.progress import over; list(over([1], 'one', 1, False)); print('rich' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
