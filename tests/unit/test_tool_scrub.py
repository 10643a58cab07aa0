"""What a model is told of an exception: words that help, no secrets, paths or stacks."""

from __future__ import annotations

import time

import pytest

from legato.tools.scrub import scrub, tell

SECRETS = {
    "postgresql://bot:hunter2pass@db.internal/x": "hunter2pass",
    "GET https://api.example/v1/x?api_key=abc123def&q=1 failed": "abc123def",
    "Authorization: Bearer abcdefgh12345678": "abcdefgh12345678",
    'headers={"x-api-key": "k-abc-123"}': "k-abc-123",
    "password=letmein123": "letmein123",
    "token sk-proj-abcdefghijklmnop1234 is wrong": "sk-proj-abcdefghijklmnop1234",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "key AKIAIOSFODNN7EXAMPLE": "AKIAIOSFODNN7EXAMPLE",
    "digest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08": "9f86d081884c7d65",
    "the value is swordfish, it seems": "swordfish",
    "cannot open /home/anna/notes.txt": "anna",
    "cannot open '/srv/my files/secret plan.txt' now": "plan",
    r"cannot open C:\Users\anna\notes.txt": "anna",
    "cannot open ~/notes/x": "notes",
    'Traceback (most recent call last):\n  File "x.py", line 3, in f': "line 3",
    "<Client object at 0x7f0011223344>": "7f0011223344",
}


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_and_paths_are_hidden(text: str) -> None:
    """Of what an exception says, paths, addresses in memory, stacks, credentials and secrets are hidden."""
    told = tell(RuntimeError(text), environ={"SHOP_API_KEY": "swordfish"})
    assert SECRETS[text] not in told
    assert told.startswith("RuntimeError")


@pytest.mark.parametrize(
    "text",
    [
        "order 00000000-0000-0000-0000-000000000001 is not there",
        "a/b is not a number, 3/4 of them are",
        "got 404 from https://api.example/v1/orders/17",
        "the token has expired",
        "Donaudampfschifffahrtsgesellschaftskapitän",
    ],
)
def test_plain_words_are_left(text: str) -> None:
    """What helps a model to go on is told."""
    assert scrub(text, environ={}) == text


def test_a_long_message_is_scrubbed_quickly() -> None:
    """The bound holds, and no pattern runs away on a text that is made for it."""
    pieces = [
        "/",
        "a=",
        "://",
        "key",
        "token",
        "A1",
        "'/",
        "a-",
        "a://",
        "A",
        "bearer ",
        "x.",
        "sk-",
        " at 0x",
        "~/",
        "\\\\",
    ]
    began_s = time.process_time()
    for piece in pieces:
        assert len(scrub(piece * 20_000)) <= 500
    assert time.process_time() - began_s < 0.5
