"""A run's log in memory: dense, append-only, sliced and copied without loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.event import CallStarted, LogItem, RunFinished, RunStarted
from legato.core.log import RunLog
from tests.logs import epochs_of_items, log_of

Epochs = list[tuple[int, list[LogItem]]]
FIRST = RunStarted(conversation_id="c", session_id="s", user_message_id="m-1", message_id="m-2", at_ms=1)
CALL = CallStarted(epoch=0, provider="p", model="m", reason="first")
LAST = RunFinished(reason="stop", message_count=2, response_time_ms=1)


@given(epochs_of_items())
def test_a_log_gives_back_what_was_appended(epochs: Epochs) -> None:
    """Every item at its seq, whatever surrounds it, in slices of any size and of one epoch each."""
    log = log_of(epochs)
    items = [(epoch, item) for epoch, part in epochs for item in part]
    assert len(log) == len(items)
    for limit in (1, 3, 1000):
        found: list[tuple[int, LogItem]] = []
        while slice_ := log.slice(len(found), limit):
            assert len(slice_) <= limit
            assert len({log.epoch_at(len(found) + at) for at in range(len(slice_))}) == 1
            found += [(log.epoch_at(len(found) + at), item) for at, item in enumerate(slice_)]
        assert found == items
    texts = [item for _, item in items if isinstance(item, str)]
    assert log.text == "".join(texts)
    assert log.terminal == items[-1][1]


@given(epochs_of_items())
def test_a_log_counts_its_texts(epochs: Epochs) -> None:
    """`texts_before` is how many text deltas stand before each seq."""
    log = log_of(epochs)
    count = 0
    for seq, item in enumerate(item for _, part in epochs for item in part):
        assert log.texts_before(seq) == count
        count += isinstance(item, str)
    assert log.texts_before(len(log)) == count


@given(epochs_of_items(), st.integers(0, 30))
def test_a_copy_grows_on_its_own(epochs: Epochs, cut: int) -> None:
    """What is appended to the copy is not in the original, nor the other way round."""
    log = log_of(epochs)
    before = [log.slice(seq, 1) for seq in range(len(log))]
    copy = log.copy()
    copy.extend(["more"] * cut + [CALL], 99)
    assert [log.slice(seq, 1) for seq in range(len(log))] == before
    assert len(copy) == len(before) + cut + 1
    log.extend([LAST], 50)
    assert copy.epoch_at(len(copy) - 1) == 99


def test_an_epoch_does_not_go_back() -> None:
    """What an earlier epoch writes after a later one is a zombie's."""
    log = log_of([(0, [FIRST]), (2, ["a"])])
    with pytest.raises(ValueError, match="epoch 1 cannot follow epoch 2"):
        log.extend(["b"], 1)
    assert len(log) == 2


def test_a_growing_log_has_no_terminal() -> None:
    """Neither empty, nor begun, nor with text after a call."""
    log = RunLog()
    assert (len(log), log.text, log.terminal, log.slice(0, 5)) == (0, "", None, ())
    log.extend([FIRST, CALL, "x"], 0)
    assert log.terminal is None
    log.extend([LAST], 0)
    assert log.terminal == LAST


def test_a_slice_past_the_head_is_empty() -> None:
    """Readers that are up to date get nothing."""
    log = log_of([(0, [FIRST, "a"])])
    assert log.slice(2, 5) == ()
    assert log.slice(1, 0) == ()
