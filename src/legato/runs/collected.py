"""Where an answer of a model goes that nobody is shown: a title, a verdict."""

from __future__ import annotations

from legato.providers.base import Pausable


class Collected:
    """A sink that keeps what comes."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.thoughts: list[str] = []
        self.reached = False

    @property
    def received(self) -> str:
        return "".join([*self.thoughts, *self.words])

    def opened(self, flow: Pausable | None) -> None:
        self.reached = True

    def text(self, delta: str) -> None:
        self.words.append(delta)

    def reasoning(self, delta: str) -> None:
        self.thoughts.append(delta)
