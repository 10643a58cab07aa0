"""The held-back window: however a text is cut into deltas, what is shown is the text with its findings redacted."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from legato.policies.moderation.chain import Chain
from legato.policies.moderation.private_data import PrivateData
from legato.policies.moderation.rules import Rules
from legato.policies.moderation.spans import Action, SpanPolicy, redacted
from legato.policies.moderation.window import Window

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7\nq83vEk+2Jd==\n-----END RSA PRIVATE KEY-----"
SECRETS = (
    "jane.doe@example.org",
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "DE89 3704 0044 0532 0130 00",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s",
    "password = hunter2Xy9!qw",
    "api_key: 'k3J9x0Qw8Zt5Lm2V'",
    "Bearer Zx9Qw3Er7Ty1Ui5Op2AsDf6Gh",
    "postgres://admin:s3cr3t-pw@db.internal:5432/app",
    "SSN 123456789",
    "(415) 555-2671",
    KEY,
)
RULED = ("dunkle Materie", "plan b. Then go", "secret-42", "赌博")
PLAIN = (
    "Hello there. ",
    "e.g. this, Dr. Who said so! ",
    "and then",
    " ",
    "\n",
    "\n\n",
    "我们去看看。",
    "今天天气很好，",
    "It costs 3.50 in all? ",
    "4111 ",
    "1111 ",
    "```python\nx = 1. + 2\nprint(x)\n```\n",
    "`code` ",
    "aws ",
    "password: ",
    "plan ",
    "dunkle ",
    "word-word_word ",
    "-----BEGIN ",
    "ÄÖü ß ",
    "x" * 90 + " ",
    "…",
)


class NoCounts:
    def policy_decided(self, policy: str, stage: str, verdict: str) -> None: ...
    def policy_failed(self, policy: str, stage: str, kind: str) -> None: ...


def chain_of(*policies: SpanPolicy) -> Chain:
    async def in_thread(function: object) -> None:
        raise AssertionError(function)

    return Chain("reply", spans=policies, asked=(), counts=NoCounts(), in_thread=in_thread)


def rules(
    *, terms: Sequence[str] = (), patterns: Sequence[str] = (), action: Action = "redact", label: str = "[x]"
) -> Rules:
    return Rules(
        "rules",
        terms=terms,
        patterns=patterns,
        action=action,
        label=label,
        reason="rules",
        text=None,
        open=False,
        where="moderation.policies[0]",
    )


PRIVATE = PrivateData(
    "private",
    action="redact",
    kinds=None,
    without=(),
    locales=("us", "uk", "in"),
    text=None,
    open=False,
    where="moderation.policies[1]",
)
HOUSE = rules(terms=["dunkle Materie", "赌博"], patterns=[r"plan b\.\s+Then", r"secret-\d+"])
BOTH = chain_of(HOUSE, PRIVATE)


def shown_of(chain: Chain, deltas: Sequence[str], *, hold_chars: int = 80, late: Sequence[bool] = ()) -> list[str]:
    """Return what a window lets out, piece by piece, redacted."""
    window = Window(chain.look, hold_chars=hold_chars)
    shown: list[str] = []

    def take(*, is_late: bool = False, last: bool = False) -> None:
        while (piece := window.take(late=is_late, last=last)) is not None:
            shown.append(redacted(piece.text, [span for span, _ in piece.spans]))

    for place, delta in enumerate(deltas):
        if window.feed(delta):
            take()
        if place < len(late) and late[place]:
            take(is_late=True)
    take(last=True)
    assert not window
    return shown


@st.composite
def cut_texts(draw: st.DrawFn) -> tuple[str, list[str], list[bool]]:
    """Draw a text, a way to cut it into deltas, and where time runs out."""
    pieces = draw(
        st.lists(st.sampled_from([*PLAIN, *SECRETS, *(f" {each} " for each in (*SECRETS, *RULED))]), max_size=12)
    )
    text = "".join(pieces)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=30)))
    deltas = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True) if start < end]
    return text, deltas, draw(st.lists(st.booleans(), max_size=len(deltas)))


BLOCKS = chain_of(rules(terms=["dunkle Materie", "赌博"], patterns=[r"plan b\.\s+Then"], action="block"), PRIVATE)


@settings(max_examples=150, deadline=None)
@given(cut_texts())
def test_nothing_of_what_is_blocked_is_ever_let_out(drawn: tuple[str, list[str], list[bool]]) -> None:
    """Up to the piece that is blocked the text is shown as ever; no piece before it holds a part of what is blocked."""
    text, deltas, late = drawn
    found = BLOCKS.look(text).spans
    blocked = [span for span, policy in found if policy == 0]
    spans = [span for span, policy in found if policy == 1]
    window = Window(BLOCKS.look, hold_chars=80)
    shown, place = "", 0
    for number, delta in enumerate([*deltas, None]):
        if delta is not None:
            window.feed(delta)
        is_late = delta is not None and number < len(late) and late[number]
        while (piece := window.take(late=is_late, last=delta is None)) is not None:
            if any(policy == 0 for _, policy in piece.spans):
                assert any(place <= span.start and span.end <= place + len(piece.text) for span in blocked)
                return
            shown += redacted(piece.text, [span for span, _ in piece.spans])
            place += len(piece.text)
            assert all(span.start >= place for span in blocked)
    assert not blocked
    assert shown == redacted(text, spans)


@settings(max_examples=300, deadline=None)
@given(cut_texts())
def test_what_is_shown_is_the_text_with_its_findings_redacted(drawn: tuple[str, list[str], list[bool]]) -> None:
    """No split into deltas, and no time that runs out, lets a part of a finding through."""
    text, deltas, late = drawn
    spans = [span for span, _ in BOTH.look(text).spans]
    assert "".join(shown_of(BOTH, deltas, late=late)) == redacted(text, spans)
