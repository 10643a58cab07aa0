"""The policy `moderations`: an OpenAI-compatible `/moderations` server judges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx2
import msgspec

from legato.policies.moderation.spans import Action
from legato.policies.moderation.verdict import Allow, Block, Flag, Passage, PolicyFailed, Verdict

MOST_ANSWER_BYTES: Final = 1_048_576
"""A longer answer is none."""


class ModerationsPolicy:
    """Asks a server; what it flags is blocked or flagged.

    Args:
        base_url: Up to `/v1`.
        thresholds: By category: from which score on it counts; where there are none, what the server flags counts.
    """

    costly = True

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        api_key: str | None,
        model: str | None,
        action: Action,
        thresholds: Mapping[str, float],
        text: str | None,
        timeout_s: float,
        open: bool,
    ) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self.open = open
        self._url = f"{base_url.rstrip('/')}/moderations"
        self._model = model
        self._action = action
        self._thresholds = dict(thresholds)
        self._text = text
        headers = {"Content-Type": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        # Made at the start: it reads certificates, for which no message should wait.
        # How long it may take is the chain's to say: two limits of the same length are told apart by chance.
        self._client = httpx2.AsyncClient(headers=headers, timeout=None, follow_redirects=False)

    async def judge(self, passage: Passage, cause: Any) -> Verdict:
        body: dict[str, Any] = {"input": passage.text}
        if self._model is not None:
            body["model"] = self._model
        try:
            answer = await self._ask(body)
        except httpx2.HTTPError as error:
            raise PolicyFailed("error", f"its server could not be asked: {type(error).__name__}") from None
        category = self._category(answer)
        if category is None:
            return Allow()
        if self._action == "flag":
            return Flag(reason=category)
        return Block(reason=category, text=self._text)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def _ask(self, body: dict[str, Any]) -> _Result:
        async with self._client.stream("POST", self._url, content=msgspec.json.encode(body)) as response:
            if response.status_code != 200:
                raise PolicyFailed("error", f"its server answered {response.status_code}")
            raw = bytearray()
            async for chunk in response.aiter_bytes():
                raw += chunk
                if len(raw) > MOST_ANSWER_BYTES:
                    raise PolicyFailed("error", "its server's answer has no end")
        try:
            answer = msgspec.json.decode(bytes(raw), type=_Answer)
        except msgspec.DecodeError:
            raise PolicyFailed("error", "its server's answer is no moderation") from None
        if len(answer.results) != 1:
            raise PolicyFailed("error", f"its server's answer has {len(answer.results)} results, not one")
        return answer.results[0]

    def _category(self, result: _Result) -> str | None:
        """Return the category that counts most; None for none."""
        if self._thresholds:
            over = {
                name: score / max(self._thresholds[name], 1e-9)
                for name, score in result.category_scores.items()
                if name in self._thresholds and score >= self._thresholds[name]
            }
            if missing := set(self._thresholds) - set(result.category_scores):
                raise PolicyFailed("error", f"its server gave no score of {sorted(missing)[0]}")
            return max(over, key=lambda name: over[name]) if over else None
        if not result.flagged:
            return None
        named = [name for name, hit in result.categories.items() if hit]
        return max(named, key=lambda name: result.category_scores.get(name, 0.0)) if named else "flagged"


class _Result(msgspec.Struct):
    flagged: bool
    categories: dict[str, bool | None] = {}
    category_scores: dict[str, float] = {}


class _Answer(msgspec.Struct):
    results: list[_Result]
