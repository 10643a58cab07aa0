"""Which passwords are taken: long ones that nobody guesses first."""

from __future__ import annotations

import random

import pytest

from legato.policies.passwords import LEAST_CHARS, MOST_CHARS, password_fault
from legato.storage.accounts import fold_name, name_fault


@pytest.mark.parametrize(
    "password",
    [
        "password1234",
        "P@ssw0rd2026!",
        "Password123456",
        "drowssap4321",
        "letmeinplease",
        "iloveyou1234",
        "Welcome2026!!",
        "correct horse battery staple",
        "qwertyuiop123",
        "1q2w3e4r5t6y",
        "qwertzuiop!1",
        "abcdefghijkl",
        "123456789012",
        "adminadmin12",
        "ann@example.com1",
        "Ann Example 2026",
        "legatolegato",
    ],
)
def test_the_first_guesses_are_not_taken(password: str) -> None:
    """Common words in whatever spelling, keyboards, years, and the name itself."""
    assert "somebody guesses" in (password_fault(password, name="ann@example.com Ann Example") or "")


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("", "0 characters"),
        ("x7Kq!m2Lp9v", "12 are the least"),
        ("ab" * 10, "too few different"),
        ("abcde1" * 3, "again and again"),
        ("x7Kq!m2Lp9v" * 30, "256 are the most"),
    ],
)
def test_what_is_wrong_is_said(password: str, words: str) -> None:
    """In numbers, without the password."""
    fault = password_fault(password)
    assert fault is not None
    assert words in fault
    assert not password or password not in fault


@pytest.mark.parametrize(
    "password",
    [
        "kitchen table moon seven",
        "x7Kq!m2Lp9vTz",
        "Zwetschgenknödel im Topf",
        "пароли бывают разные",
        "密码应该很长而且没人知道的",
    ],
)
def test_others_are_taken(password: str) -> None:
    """In any alphabet, with and without spaces; there are no rules of which characters it has."""
    assert password_fault(password, name="ann") is None


def test_random_ones_are_taken() -> None:
    """What a password manager makes."""
    rng = random.Random(5)
    letters = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789!-_%"
    made = ["".join(rng.choice(letters) for _ in range(size)) for size in range(16, 64) for _ in range(20)]
    assert [each for each in made if password_fault(each, name="ann") is not None] == []
    assert (LEAST_CHARS, MOST_CHARS) == (12, 256)


@pytest.mark.parametrize(("name", "folded"), [("Ann", "ann"), (" ANN ", "ann"), ("Ａnn", "ann"), ("Straße", "strasse")])
def test_names_are_folded(name: str, folded: str) -> None:
    """However they are written."""
    assert fold_name(name) == folded


@pytest.mark.parametrize("name", ["", " ", "account:1", "a\x00", "a\n", "x" * 201])
def test_some_names_are_not_taken(name: str) -> None:
    """Blank, unprintable, endless, or what could be an account's id."""
    assert name_fault(name) is not None
