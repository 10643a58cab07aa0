"""Rules, private data, sentences: what is found and what is not, in tables; and what is refused at the start."""

from __future__ import annotations

import contextlib
import re
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from legato.core.errors import ConfigurationError
from legato.policies.moderation.patterns import Pattern
from legato.policies.moderation.private_data import PrivateData, known_kinds
from legato.policies.moderation.rules import Rules
from legato.policies.moderation.sentences import Sentences, soft_border
from legato.policies.moderation.spans import Span, redacted
from legato.policies.moderation.terms import Terms
from legato.policies.moderation.verdict import PolicyFailed
from legato.settings_moderation import ModerationSettings


def private(**more: Any) -> PrivateData:
    given: dict[str, Any] = {"kinds": None, "without": (), "locales": ("us", "uk", "in"), "action": "redact"}
    return PrivateData("private", text=None, open=False, where="policies[0]", **(given | more))


TERMS = ("kill", "New York", "naïve", "c++", "赌博", "straße", "f**k", "กิน")
FOUND = {
    "I could kill him": "kill",
    "KILL!": "KILL",
    "ｋｉｌｌ it": "ｋｉｌｌ",
    "k\u200bill it": "k\u200bill",
    "k\ufe0fill it": "k\ufe0fill",
    "k\x01ill it": "k\x01ill",
    "k\x7fill it": "k\x7fill",
    "k\u20ddill it": "k\u20ddill",
    "ki\u1dc4ll it": "ki\u1dc4ll",
    "k\u3164ill it": "k\u3164ill",
    "เรากินข้าว": "กิน",
    "new   york city": "new   york",
    "in New\nYork.": "New\nYork",
    "naive of me": "naive",
    "nai\u0308ve of me": "nai\u0308ve",
    "I write C++ now": "C++",
    "c++": "c++",
    "我们去赌博吧": "赌博",
    "我kill他": "kill",
    "die STRASSE dort": "STRASSE",
    "oh f**k that": "f**k",
}
NOT_FOUND = (
    "skill",
    "killer whales",
    "overkill",
    "York",
    "new yorker",
    "native",
    "c+ and d",
    "博赌",
    "strass",
    "f**",
    "กน",
)


@pytest.mark.parametrize(("text", "found"), FOUND.items(), ids=range(len(FOUND)))
def test_a_term_is_found_however_it_is_written(text: str, found: str) -> None:
    """Case, width, accents, invisible characters and runs of white space make no difference."""
    assert [text[start:end] for start, end in Terms(TERMS, where="rules").find(text)] == [found]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_a_term_is_found_in_whole_words_alone(text: str) -> None:
    """What is only a part of a word, or only a part of a term, is none."""
    assert Terms(TERMS, where="rules").find(text) == []


PRIVATE_FOUND = {
    "mail jane@example.org now": "mail [EMAIL] now",
    "card 4111 1111 1111 1111": "card [CREDIT_CARD]",
    "amex 378282246310005": "amex [CREDIT_CARD]",
    "IBAN DE89 3704 0044 0532 0130 00.": "IBAN [IBAN].",
    "call +14155552671": "call [PHONE]",
    "call (415) 555-2671": "call [PHONE]",
    "SSN 123-45-6789": "SSN [SSN_US]",
    "NHS 943 476 5919": "NHS [NHS_NUMBER]",
    "key AKIAIOSFODNN7EXAMPLE": "key [AWS_ACCESS_KEY_ID]",
    "postgres://admin:s3cr3t-pw@db/app": "postgres://[URL_CREDENTIALS]@db/app",
    'password = "hunter2Xy9!qw"': 'password = "[GENERIC_SECRET]"',
    "Authorization: Bearer Zx9Qw3Er7Ty1Ui5Op2AsDf6Gh": "Authorization: Bearer [BEARER_TOKEN]",
    "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY----- end": "[PRIVATE_KEY] end",
}
# What it cannot find, and what it takes for a number of a person's: docs/guides/moderation.md says so too.
PRIVATE_LEFT = (
    "Jane Doe, 12 Main Street",
    "born on 1 May 1980",
    "my password is swordfish",
    "card 4111 1111 1111 1112",
    "IBAN DE89 3704 0044 0532 0130 01",
    "at 192.168.0.1 and ::1",
    "version 1.2.3.4",
    "invoice 20261123",
    "2026-11-23 06:07:08",
    "password = changeme",
    "the bearer of this letter",
    "https://example.org:8080/path",
    "icon@2x.png",
    "d41d8cd98f00b204e9800998ecf8427e",
)
PRIVATE_MISTAKEN = {"order 9876543210": "order [PHONE]", "part 415-555-2671": "part [PHONE]"}


@pytest.mark.parametrize(("text", "left"), (PRIVATE_FOUND | PRIVATE_MISTAKEN).items())
def test_private_data_is_found_by_shape_and_checksum(text: str, left: str) -> None:
    """Numbers that are what they look like, keys and secrets with a name; a number of the right length is mistaken."""
    assert redacted(text, private().find(text)) == left


@pytest.mark.parametrize("text", PRIVATE_LEFT)
def test_what_has_no_shape_is_not_found(text: str) -> None:
    """Names, addresses, dates, numbers with a wrong checksum, addresses of networks unless they are asked for."""
    assert private().find(text) == []


def test_kinds_can_be_chosen() -> None:
    """Only what is named is looked for, and bare entropy only where it is named."""
    text = "jane@example.org at 192.168.0.1"
    assert redacted(text, private(kinds=["ipv4"]).find(text)) == "jane@example.org at [IPV4]"
    assert redacted(text, private(without=["email"]).find(text)) == text
    token = "zQ8vK2mX9pL4wN7rT1yB6cD3fG5hJ0sA"
    assert redacted(token, private(kinds=["high_entropy_string"]).find(token)) == "[HIGH_ENTROPY_STRING]"
    assert {"email", "private_key", "generic_secret"} <= known_kinds()


SENTENCES = {
    "One. Two": "One. ",
    "Really?! Yes": "Really?! ",
    "He said “no.” Then": "He said “no.” ",
    "Dr. Who is here. Bye": "Dr. Who is here. ",
    "e.g. this one. Bye": "e.g. this one. ",
    "J. S. Bach wrote. Bye": "J. S. Bach wrote. ",
    "It costs 3.50 now. Bye": "It costs 3.50 now. ",
    "1. First item\n2. Second": "1. First item\n",
    "Wait... and see. Bye": "Wait... and see. ",
    "z.B. so etwas. Ja": "z.B. so etwas. ",
    "我们去看看。好": "我们去看看。",
    "「行くの？」そう": "「行くの？」",
    "क्या हाल है। ठीक": "क्या हाल है। ",
    "a line\nanother": "a line\n",
    "```py\nx = 1. + 2\n```\nBye. Now": "```py\nx = 1. + 2\n```\n",
    "~~~\n``` no end\n\n~~~\nafter": "~~~\n``` no end\n\n~~~\n",
}
UNENDED = ("One", "One.", "3.50 and", "Dr. Who", "e.g. this", "```py\nx = 1. + 2\n", "``` and\nso", "我们去")


@pytest.mark.parametrize(("text", "first"), SENTENCES.items(), ids=range(len(SENTENCES)))
def test_a_sentence_ends_where_people_say_so(text: str, first: str) -> None:
    """Not behind abbreviations, initials and numbers of lists; a block of code is one piece."""
    assert text[: Sentences().border(text) or 0] == first


@pytest.mark.parametrize("text", UNENDED)
def test_what_may_go_on_has_no_end(text: str) -> None:
    """What comes next may belong to it."""
    assert Sentences().border(text) is None


def test_a_block_of_code_is_known_across_cuts() -> None:
    """What was cut in the midst of a block is still in it; its end is found where the fence is."""
    sentences = Sentences()
    sentences.taken("Look. \n```py\nx = 1\n")
    assert sentences.border("y = 2. + 3\nz = 4\n") is None
    assert sentences.border("y = 2\n```\nBye") == len("y = 2\n```\n")


def test_words_are_never_cut() -> None:
    """In need a text is cut behind white space, or between two characters of a script without any."""
    assert soft_border("one two three", 9) == 8
    assert soft_border("onetwothree", 9) == 0
    assert soft_border("我们去看看", 3) == 3


@pytest.mark.parametrize("source", [r"(?:x|x)+;", r"(x+x+)+y", r"(?:(?:x{1,50}){1,50}){1,50}b"])
def test_no_pattern_takes_longer_than_its_time(source: str) -> None:
    """A pattern that would take for ever fails, instead of holding the server; it says nothing of the text."""
    pattern = Pattern(source, where="rules")
    began_s = time.thread_time()
    with pytest.raises(PolicyFailed) as failed:
        list(pattern.matches("x" * 600))
    assert failed.value.kind == "timeout"
    with contextlib.suppress(PolicyFailed):
        pattern.settled("x" * 600)
    assert time.thread_time() - began_s < 1.0


BAD_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "a pattern": ({"type": "rules", "patterns": ["ok", "(open"]}, r"moderation.policies[0].patterns[1]: '(open'"),
    "an empty match": ({"type": "rules", "patterns": ["a*"]}, "'a*' matches an empty text"),
    "a blank term": ({"type": "rules", "terms": ["a", " "]}, "moderation.policies[0].terms: term 2 is blank"),
    "a kind": ({"type": "private_data", "kinds": ["emial"]}, "moderation.policies[0]: unknown kind emial"),
    "no kind left": ({"type": "private_data", "kinds": ["email"], "without": ["email"]}, "nothing is left"),
}


@pytest.mark.parametrize(("policy", "words"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_a_wrong_policy_names_itself(policy: dict[str, Any], words: str) -> None:
    """The server does not start; it says which policy, which value, and what would be right."""
    from legato.policies.moderation.config import create_chains
    from tests.unit.test_moderation_window import NoCounts

    with pytest.raises(ConfigurationError) as refused:
        create_chains(
            ModerationSettings(policies=[policy]),
            (),
            counts=NoCounts(),
            in_thread=_never,
            in_turn=_never,
            make_judge=_never,
            server_of=_never,
        )
    assert words in refused.value.message


WRONG_SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to find": ({"policies": [{"type": "rules"}]}, "neither terms nor patterns"),
    "an unknown type": ({"policies": [{"type": "rule"}]}, "rule"),
    "an unknown field": ({"policies": [{"type": "rules", "terms": ["a"], "term": 1}]}, "term"),
    "one name twice": (
        {"policies": [{"type": "private_data"}, {"type": "private_data"}]},
        "there is a policy 'private_data' before it",
    ),
    "a name that is none": ({"policies": [{"type": "private_data", "name": "My rules"}]}, "'My rules' is no name"),
    "an address": ({"policies": [{"type": "moderations", "base_url": "example.org"}]}, "neither http:// nor"),
    "too short a hold": ({"hold_chars": 10}, "80"),
}


@pytest.mark.parametrize(("values", "words"), WRONG_SHAPES.values(), ids=WRONG_SHAPES)
def test_settings_of_a_wrong_shape_are_refused(values: dict[str, Any], words: str) -> None:
    """What cannot be meant is refused where it stands."""
    with pytest.raises(ValidationError, match=r"(?s).*") as refused:
        ModerationSettings(**values)
    assert words in str(refused.value)


def test_overlapping_findings_are_one() -> None:
    """Of findings that overlap the first one's label stands for all; those that touch are two."""
    spans = [Span(start=s, end=e, label=label, reason="r") for s, e, label in ((2, 6, "A"), (4, 8, "B"), (8, 9, "C"))]
    assert redacted("0123456789", spans) == "01AC9"


def test_rules_say_what_may_become_a_finding() -> None:
    """A text is settled up to where a term or a pattern may begin that goes on behind it."""
    rules = Rules(
        "r",
        terms=["new york"],
        patterns=[r"id-\d+", r"BEGIN.*END|secret"],
        action="redact",
        label="[x]",
        reason="r",
        text=None,
        open=False,
        where="policies[0]",
    )
    settled = {"all is well. ": 13, "in new yo": 3, "the id-12": 4, "a BEGIN secret here": 2, "id-1 new": 5}
    assert {text: rules.settled(text) for text in settled} == settled


def _never(*args: Any) -> Any:
    raise AssertionError(args)


def test_the_guide_shows_settings_that_there_are() -> None:
    """Each table of docs/guides/moderation.md can be used as it stands."""
    guide = (Path(__file__).parents[2] / "docs/guides/moderation.md").read_text("utf-8")
    shown = [tomllib.loads(block) for block in re.findall(r"^```toml\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)]
    found = [ModerationSettings(**each["moderation"]) for each in shown]
    assert [policy.type for each in found for policy in each.policies] == [
        "rules",
        "private_data",
        "moderations",
        "judge",
    ]
