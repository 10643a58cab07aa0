"""Which passwords are taken: long enough, and not among the first that somebody guesses.

Pure. There are no rules of which characters one must have: they make passwords worse.

Source:
    https://pages.nist.gov/800-63-4/sp800-63b.html#password
"""

from __future__ import annotations

import unicodedata
from typing import Final

LEAST_CHARS: Final = 12
MOST_CHARS: Final = 256
LEAST_DISTINCT: Final = 5
_LEAST_OWN: Final = 5
"""Different letters that have to be left when common words, the name and runs are taken out."""
_LEET: Final = str.maketrans({"0": "o", "1": "l", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i"})
_RUNS: Final = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl")
_LEAST_RUN: Final = 4
# The words that lists of stolen passwords are mostly made of, in English, German, French and Spanish.
_WORDS: Final = frozenset(
    """
    password passwort passwd passwords passphrase motdepasse contrasena contrase senha kennwort geheim secret secreto
    letmein welcome willkommen bienvenue bienvenido hello hallo bonjour login logon signin master admin administrator
    root user guest test testing tester temp temporary default change changeme changeit please bitte dragon monkey
    princess sunshine iloveyou iloveu loveyou lovely love liebe amour flower shadow superman batman spiderman pokemon
    starwars football baseball basketball soccer hockey fussball futbol michael jennifer jordan michelle daniel thomas
    andrew charlie ashley jessica robert george matthew summer winter spring autumn sommer herbst january february
    march april june july august september october november december monday tuesday wednesday thursday friday saturday
    sunday google facebook microsoft windows linkedin apple samsung computer internet server system manager company
    legato chatbot openai correcthorsebatterystaple correct horse battery staple trustno trust freedom whatever ginger
    pepper cookie cheese banana orange purple yellow silver golden killer hunter ranger mustang ferrari porsche
    mercedes corvette harley yamaha liverpool arsenal chelsea barcelona realmadrid london paris berlin madrid america
    deutschland qwerty qwertz azerty asdf yxcv zxcv abc qaz wsx edc the this that your mine love you
    """.split()  # noqa: SIM905 - as a list it would be as long as the file
)
_COMMON: Final = _WORDS | {word[::-1] for word in _WORDS if len(word) >= 6}
_LONGEST: Final = max(map(len, _COMMON))


def password_fault(password: str, *, name: str = "", least_chars: int = LEAST_CHARS) -> str | None:
    """Return what is wrong with a new password, or None.

    Args:
        name: Of the account; a password that is hardly more is refused.
    """
    text = normal_password(password)
    if len(text) < least_chars:
        return f"has {len(text)} characters: {least_chars} are the least"
    if len(text) > MOST_CHARS:
        return f"has {len(text)} characters: {MOST_CHARS} are the most"
    if len(set(text)) < LEAST_DISTINCT:
        return "is made of too few different characters"
    if _is_repeated(text):
        return "is one short piece again and again"
    if len(set(_own_part(text, name))) < _LEAST_OWN:
        return "is one of the first that somebody guesses: take a few words that have nothing to do with each other"
    return None


def normal_password(password: str) -> str:
    """Return a password as it is hashed: the same one, however a keyboard composes its letters."""
    return unicodedata.normalize("NFKC", password)


def _is_repeated(text: str) -> bool:
    return any(text[size:] == text[:-size] for size in range(1, len(text) // 2))


def _own_part(text: str, name: str) -> str:
    """Return the letters of a password that belong to no common word, no run of the keyboard and not to the name."""
    letters = _without_words(_without_runs(text.casefold()))
    letters = _without_runs("".join(each for each in letters if each.isalpha()))
    folded = unicodedata.normalize("NFKC", name).casefold()
    parts = "".join(each if each.isalnum() else " " for each in folded).split()
    for part in sorted({part for part in parts if len(part) >= 3}, key=len, reverse=True):
        letters = letters.replace(part, "")
    return letters


def _without_words(text: str) -> str:
    read = text.translate(_LEET)
    left = []
    at = 0
    while at < len(text):
        for size in range(min(_LONGEST, len(text) - at), 2, -1):
            if read[at : at + size] in _COMMON:
                at += size
                break
        else:
            left.append(text[at])
            at += 1
    return "".join(left)


def _without_runs(text: str) -> str:
    """Return a text without stretches of a keyboard or an alphabet, forwards or backwards."""
    left = []
    at = 0
    while at < len(text):
        size = _run_at(text, at)
        if size < _LEAST_RUN:
            left.append(text[at])
            size = 1
        at += size
    return "".join(left)


def _run_at(text: str, at: int) -> int:
    size = 1
    for row in _RUNS:
        for line in (row, row[::-1]):
            most = 2
            while at + most <= len(text) and text[at : at + most] in line:
                size = max(size, most)
                most += 1
    return size
