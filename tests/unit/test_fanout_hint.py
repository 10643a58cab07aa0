"""Hints as bytes, and the set that waits: bounds, and what another release may say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from legato.fanout.base import channel_of
from legato.fanout.hint import EVERYTHING, LARGEST_KEY, Hint, HintKind, decode, encode
from legato.fanout.outage import Outage
from legato.fanout.pending import MOST_KEYS, Pending

SENDER = b"sender-8"
KEYS = st.frozensets(st.integers(0, LARGEST_KEY), max_size=60)
HINTS = st.lists(st.builds(Hint, kind=st.sampled_from(HintKind), keys=KEYS), max_size=6)


def _head(version: int = 1) -> bytes:
    return bytes([version]) + SENDER


def _said(hints: list[Hint]) -> dict[HintKind, set[int] | None]:
    """What hints mean together; None is any run."""
    said: dict[HintKind, set[int] | None] = {}
    for hint in hints:
        before = said.get(hint.kind, set())
        said[hint.kind] = None if before is None or not hint.keys else before | hint.keys
    return said


@given(HINTS, st.integers(22, 400))
def test_what_is_encoded_is_decoded(hints: list[Hint], most_bytes: int) -> None:
    """Whatever the size of a message, nothing is lost, none is larger, and each names its sender."""
    messages = encode(hints, SENDER, most_bytes=most_bytes)
    read = [decode(message) for message in messages]
    assert all(len(message) <= most_bytes for message in messages)
    assert all(sender == SENDER for sender, _ in read)
    assert _said([hint for _, found in read for hint in found]) == _said(hints)


@given(st.binary(max_size=80))
def test_anything_can_be_decoded(message: bytes) -> None:
    """A message of anybody raises nothing."""
    decode(message)
    decode(_head() + message)


@pytest.mark.parametrize(
    ("message", "hints"),
    [
        pytest.param(b"", [EVERYTHING], id="empty"),
        pytest.param(_head(2), [EVERYTHING], id="a later version"),
        pytest.param(_head(), [], id="no hint"),
        pytest.param(_head() + b"\x63\x00\x00\x00\x01" + bytes(8), [], id="a kind of a later release"),
        pytest.param(
            _head() + b"\x63\x00\x00\x00\x01" + bytes(8) + b"\x01\x00\x00\x00\x00",
            [Hint(kind=HintKind.GROWN)],
            id="a known kind behind an unknown one",
        ),
        pytest.param(_head() + b"\x01\x00\x00\x00\x02" + bytes(8), [EVERYTHING], id="keys are missing"),
        pytest.param(_head() + b"\x01\x00", [EVERYTHING], id="cut in a head"),
        pytest.param(_head() + b"\x01\x00\x00\x00\x01" + b"\xff" * 8, [EVERYTHING], id="a key below 0"),
    ],
)
def test_what_cannot_be_read_counts_as_everything(message: bytes, hints: list[Hint]) -> None:
    """An unknown kind is passed over; what is cut or of another version may have said anything."""
    assert decode(message)[1] == hints


@pytest.mark.parametrize("key", [-1, 2**63])
def test_keys_have_bounds(key: int) -> None:
    """A key that would not fit is refused where it is made, not when it is sent."""
    with pytest.raises(ValueError, match="keys of a hint"):
        Hint(kind=HintKind.STOP, keys=frozenset({key}))


def test_what_waits_is_bounded() -> None:
    """A kind with too many keys means any run; other kinds keep theirs, and taking begins anew."""
    pending = Pending()
    pending.add(Hint(kind=HintKind.STOP, keys=frozenset({1})))
    for key in range(MOST_KEYS + 5):
        pending.add(Hint(kind=HintKind.GROWN, keys=frozenset({key})))
    assert _said(pending.take()) == {HintKind.STOP: {1}, HintKind.GROWN: None}
    assert not pending
    assert pending.take() == []


def test_what_is_lost_is_everything() -> None:
    """Nothing is added to an EVERYTHING that waits."""
    pending = Pending()
    pending.add(Hint(kind=HintKind.STOP, keys=frozenset({1})))
    pending.add(EVERYTHING)
    pending.add(Hint(kind=HintKind.GROWN, keys=frozenset({2})))
    assert pending.take() == [EVERYTHING]


@pytest.mark.parametrize("said", ["pass word/ä", "pass%20word/%C3%A4", "pass%20word%2F%C3%A4"])
def test_a_log_never_holds_the_password(said: str) -> None:
    """Though a library repeats it, as it is or as it stands in the address; one line an outage, another at its end."""
    outage = Outage("redis", "pass word/ä")
    with capture_logs() as logs:
        for connection in ("publish", "subscribe", "publish"):
            outage.begin(OSError(f"cannot reach redis://ann:{said}@host"), connection)
        outage.over("publish")
        outage.over("subscribe")
    assert [entry["event"].partition(":")[0] for entry in logs] == ["hints are away", "hints are back"]
    assert "pass" not in repr(logs)
    assert "@host" in logs[0]["error"]


def test_pauses_grow_to_their_longest() -> None:
    """They double, within bounds, and begin anew only after a connection that lasted."""
    outage = Outage("redis", None, longest_s=1.0)
    pauses = [outage.begin(OSError("refused")) for _ in range(10)]
    assert pauses[0] <= 0.05
    assert all(0.5 <= pause <= 1.0 for pause in pauses[5:])
    outage.over()
    assert outage.begin(OSError("refused")) >= 0.5


def test_channels_are_of_a_namespace() -> None:
    """Short enough for PostgreSQL's names, the same for the same, whatever is in the namespace."""
    assert channel_of("a") == channel_of("a") != channel_of("b")
    assert len(channel_of('"; DROP TABLE x; ' * 100)) < 63
