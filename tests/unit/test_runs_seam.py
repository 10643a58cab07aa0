"""Where a continued reply meets what was shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.runs.seam import EXACT_REPEAT_CHARS, HOLD_CHARS, REPEAT_CHARS, RESTART_CHARS, Restarted, Seam, mend

TEXT = "The quick brown fox jumps over the lazy dog, and then it sleeps until the evening comes."


@pytest.mark.parametrize("cut", range(1, len(TEXT)))
@pytest.mark.parametrize("exact", [True, False])
def test_a_continuation_from_the_sent_prefix_is_whole(cut: int, exact: bool) -> None:
    """The prefix is sent without its trailing white space, the model goes on from there: nothing doubled, none lost."""
    prefix, rest = TEXT[:cut], TEXT[len(TEXT[:cut].rstrip()) :]
    assert prefix + mend(prefix, rest, exact=exact) == TEXT


@pytest.mark.parametrize("cut", range(40, len(TEXT) - 1, 3))
@pytest.mark.parametrize("back", [EXACT_REPEAT_CHARS, 25, 39])
@pytest.mark.parametrize("exact", [True, False])
def test_a_repeat_of_the_end_is_cut_out(cut: int, back: int, exact: bool) -> None:
    """A model that says its last words again is mended, with other white space before them too."""
    bare = TEXT[:cut].rstrip()
    again = TEXT[len(bare) - back :]
    for lead in ("", "\n", " "):
        assert TEXT[:cut] + mend(TEXT[:cut], lead + again, exact=exact) == TEXT


def test_a_short_repeat_is_the_models_style() -> None:
    """What is shorter than a bound is meant so."""
    assert mend("ha ha", " ha ha", exact=True) == " ha ha"
    assert mend("x" * (REPEAT_CHARS - 1), "x" * (REPEAT_CHARS - 1) + "!", exact=True).count("x") == REPEAT_CHARS - 1


def test_a_second_beginning_is_told() -> None:
    """A reply that starts from its top is not a continuation; a prefilled model cannot do it."""
    with pytest.raises(Restarted):
        mend(TEXT[:60], TEXT[: RESTART_CHARS + 10], exact=False)
    assert mend(TEXT[:60], TEXT[: RESTART_CHARS + 10], exact=True)
    assert mend("The qui", TEXT, exact=False) == TEXT[7:], "a short beginning is simply said whole"


def test_a_word_that_was_cut_is_not_said_twice() -> None:
    """The prefix ended inside a word, and the model wrote that word whole."""
    assert mend("It was extraord", "extraordinary.", exact=False) == "inary."
    assert mend("It was a", "as they said.", exact=True) == "as they said."


@pytest.mark.parametrize(
    ("shown", "text", "left"), [(" ", " x", "x"), ("\n\n", "\n\nx", "x"), ("\n", " x", "x"), ("", " x", " x")]
)
def test_white_space_is_not_doubled(shown: str, text: str, left: str) -> None:
    """What the prefix ended in stands there already."""
    assert mend(f"word{shown}", text, exact=True) == left


def test_nothing_is_changed_without_a_prefix() -> None:
    """A reply from its beginning needs no mending."""
    assert mend("", " x", exact=False) == " x"
    assert mend("x", "", exact=False) == ""


SMALL = st.text("ab \n", max_size=12)


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A prefix and what a model says behind it: anything, or made of the prefix's own pieces, which may be repeats."""
    prefix = draw(st.text(min_size=1, max_size=80) | st.text("ab \n", min_size=1, max_size=80))
    places = st.integers(0, len(prefix))
    slices = st.tuples(places, places).map(lambda ends: prefix[min(ends) : max(ends)])
    return prefix, draw(st.lists(slices | SMALL | st.text(max_size=20), max_size=12))


@given(answers(), st.booleans())
def test_any_split_of_a_continuation_is_mended_alike(answer: tuple[str, list[str]], exact: bool) -> None:
    """However it comes in, what is shown is the mended whole, and nothing is held back at the end."""
    prefix, deltas = answer
    whole = "".join(deltas)
    seam = Seam(prefix, exact=exact)
    shown = ""
    try:
        for delta in deltas:
            shown += seam.feed(delta)
        shown += seam.close()
    except Restarted:
        with pytest.raises(Restarted):
            mend(prefix, whole, exact=exact)
        return
    held = 0
    for delta in deltas:
        held += len(delta)
        if held >= HOLD_CHARS:
            break
    assert shown == mend(prefix, whole[:held], exact=exact) + whole[held:]
    assert whole.endswith(shown)
    assert seam.close() == ""


def test_what_cannot_be_a_repeat_is_shown_at_once() -> None:
    """A reader whose reply was taken over does not wait for more words of a slow model than it takes to tell."""
    for first in (" cat", "\n\nThen", "!"):
        assert Seam(TEXT, exact=False).feed(first) == first
    seam = Seam(TEXT, exact=False)
    assert [seam.feed(delta) for delta in (" ", "the", " evening", " of", " it")] == [
        "",
        "",
        "",
        " the evening of",
        " it",
    ]
