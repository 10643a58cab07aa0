"""The widget: a publishable key makes visitors, who may chat and nothing else, from pages of its origins alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from legato.http import visitor_tokens
from legato.http.credentials import KEY_CACHE_S
from legato.http.throttle import VISITORS
from tests.asgi import AsgiAnswer
from tests.page_world import DAY_MS, OWN, SHOP, Site, open_site

EVIL = "https://evil.example"
LISTED = "https://chat.example"
"""In LEGATO_ALLOWED_ORIGINS, and not in the widget's key."""
CACHE_MS = int(KEY_CACHE_S * 1000)
JSON = {"accept": "application/json"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A server with keys for ann, an admin, and ben; one other site's pages may call."""
    async with open_site(tmp_path, allowed_origins=[LISTED]) as opened:
        await opened.make_keys(ann="admin", ben="member")
        yield opened


async def say(site: Site, token: str, message: str = "script: tokens=2", **fields: Any) -> AsgiAnswer:
    return await site.ask("POST", "/chat/stream", {"message": message} | fields, key=token, origin=SHOP, **JSON)


# Visitors


async def test_a_visitor_is_made_and_comes_back(site: Site) -> None:
    """Its token is renewed for the same person; a page of the site and the frame itself may ask."""
    key = await site.make_publishable()
    token = await site.visitor(key)
    me = (await site.ask("GET", "/me", key=token, origin=SHOP)).json
    assert (me["role"], me["via"], me["auth"]) == ("visitor", "visitor", "keys")
    assert me["id"].startswith(f"visitor:{key.split('_')[1]}:")
    site.clock.shift_ms += 29 * DAY_MS
    again = await site.ask("POST", "/widget/visitors", {"token": token}, key=key, origin=OWN)
    assert 0 <= site.clock.now_ms() + 30 * DAY_MS - again.json["expiresAt"] < 10_000
    assert again.json["token"] != token
    site.clock.shift_ms += 2 * DAY_MS
    assert (await site.ask("GET", "/me", key=token, origin=SHOP)).status == 401
    assert (await site.ask("GET", "/me", key=again.json["token"], origin=SHOP)).json["id"] == me["id"]


async def test_a_token_that_is_not_good_is_replaced(site: Site) -> None:
    """Expired, of another key, changed or nonsense: a new visitor, never somebody else."""
    key, other = await site.make_publishable(), await site.make_publishable(EVIL)
    token = await site.visitor(key)
    mine = (await site.ask("GET", "/me", key=token, origin=SHOP)).json["id"]
    theirs = await site.ask("POST", "/widget/visitors", {"token": token}, key=other, origin=EVIL)
    ids = {(await site.ask("GET", "/me", key=theirs.json["token"], origin=EVIL)).json["id"]}
    for wrong in (token[:-1], token + "x", "lv_", "x", "", token.replace("lv_", "lk_"), site.keys["ann"]):
        made = await site.visitor(key, wrong)
        ids.add((await site.ask("GET", "/me", key=made, origin=SHOP)).json["id"])
    site.clock.shift_ms += 31 * DAY_MS
    made = await site.visitor(key, token)
    ids.add((await site.ask("GET", "/me", key=made, origin=SHOP)).json["id"])
    assert len(ids) == 9
    assert mine not in ids


async def test_a_token_cannot_be_made_up(site: Site) -> None:
    """Every byte of it is signed with the key's own secret."""
    key = await site.make_publishable()
    token = await site.visitor(key)
    assert (await site.ask("GET", "/me", key=token, origin=SHOP)).status == 200
    key_id = key.split("_")[1]
    for place in range(len(token)):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert (await site.ask("GET", "/me", key=changed, origin=SHOP)).status == 401, place
    forged = visitor_tokens.sign(b"", key_id, visitor_tokens.new_visitor(), site.clock.now_ms() + DAY_MS)
    assert (await site.ask("GET", "/me", key=forged, origin=SHOP)).status == 401
    # A secret key has no secret of the kind: no token is of it.
    theirs = visitor_tokens.sign(b"", site.keys["ann"].split("_")[1], "x" * 22, site.clock.now_ms() + DAY_MS)
    assert (await site.ask("GET", "/me", key=theirs, origin=SHOP)).status == 401


async def test_a_revoked_key_takes_its_visitors_along(site: Site) -> None:
    """Within the seconds in which a good one is remembered; its pages are then as any other site's."""
    key = await site.make_publishable()
    token = await site.visitor(key)
    assert (await site.ask("GET", "/me", key=token, origin=SHOP)).status == 200
    await site.revoke(key)
    site.clock.shift_ms += CACHE_MS
    assert (await site.ask("GET", "/me", key=token, origin=OWN)).status == 401
    assert (await site.ask("GET", "/me", key=token, origin=SHOP)).status == 403
    assert (await site.ask("POST", "/widget/visitors", {}, key=key, origin=OWN)).status == 401


# What a visitor may do


async def test_a_visitor_chats(site: Site) -> None:
    """Posts, follows, stops, reads its own conversations, has replies made anew, and says whether they were good."""
    token = await site.visitor(await site.make_publishable())
    posted = await say(site, token, conversationId="c-1")
    assert (posted.status, b"event: complete" in posted.body) == (200, True)
    assert posted.headers["access-control-allow-origin"] == SHOP
    run_id, reply = posted.headers["x-run-id"], posted.headers["x-message-id"]
    asks: list[tuple[str, str, object, int]] = [
        ("GET", f"/chat/stream/{run_id}", None, 200),
        ("POST", f"/chat/stream/{run_id}/stop", None, 202),
        ("GET", "/conversations", None, 200),
        ("GET", f"/runs/{run_id}", None, 200),
        ("GET", "/conversations/c-1", None, 200),
        ("GET", "/conversations/c-1/messages", None, 200),
        ("POST", f"/messages/{reply}/regenerate", {}, 200),
        ("PUT", f"/messages/{reply}/feedback", {"thumb": "up"}, 200),
        ("GET", "/me", None, 200),
    ]
    for method, path, body, status in asks:
        assert (await site.ask(method, path, body, key=token, origin=SHOP)).status == status, path


REFUSED: list[tuple[str, str, object]] = [
    ("POST", "/chat/stream/r-1/approvals/t-1", {"granted": True}),
    ("POST", "/conversations", {"title": "x"}),
    ("PATCH", "/conversations/c-1", {"systemPrompt": "x"}),
    ("DELETE", "/conversations/c-1", None),
    ("POST", "/conversations/c-1/fork", {}),
    ("GET", "/conversations/c-1/export", None),
    ("POST", "/conversations/import", {}),
    ("GET", "/conversations/c-1/messages/m-1", None),
    ("DELETE", "/runs/r-1", None),
    ("GET", "/search?q=x", None),
    ("GET", "/models", None),
    ("GET", "/messages", None),
    ("GET", "/analytics", None),
    ("GET", "/session-stats/s-1", None),
    ("GET", "/openapi.json", None),
    ("GET", "/admin/figures", None),
    ("GET", "/admin/queue", None),
    ("GET", "/admin/dead-letters", None),
    ("GET", "/admin/steps", None),
    ("GET", "/admin/runs", None),
    ("GET", "/admin/sessions", None),
    ("DELETE", "/admin/dead-letters/x", None),
    ("POST", "/widget/visitors", {}),
    ("GET", "/nothing", None),
    ("DELETE", "/me", None),
    ("GET", "/chat/stream/r-1/stop", None),
    ("GET", "/conversations/a/b", None),
]


@pytest.mark.parametrize(("method", "path", "body"), REFUSED, ids=lambda value: str(value)[:40])
async def test_a_visitor_does_nothing_else(site: Site, method: str, path: str, body: object) -> None:
    """403, whatever is there; so does a publishable key, which makes visitors and no more."""
    key = await site.make_publishable()
    token = await site.visitor(key)
    answer = await site.ask(method, path, body, key=token, origin=SHOP)
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    if path != "/widget/visitors":
        assert (await site.ask(method, path, body, key=key, origin=SHOP)).status == 403


@pytest.mark.parametrize("field", ["systemPrompt", "model", "temperature", "maxTokens"])
async def test_a_visitor_chooses_no_settings(site: Site, field: str) -> None:
    """Whoever pays for the replies does; anybody with a key may."""
    value: Any = {"temperature": 1, "maxTokens": 5}.get(field, "scripted")
    token = await site.visitor(await site.make_publishable())
    reply = (await say(site, token)).headers["x-message-id"]
    refused = await say(site, token, "x", **{field: value})
    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    again = await site.ask("POST", f"/messages/{reply}/regenerate", {field: value}, key=token, origin=SHOP)
    assert again.status == 403
    body = {"message": "script: tokens=1", field: value}
    assert (await site.ask("POST", "/chat/stream", body, key=site.keys["ben"])).status == 200


async def test_visitors_never_meet(site: Site) -> None:
    """Not of one key, nor of two, nor with those who hold a secret key: what is another's is not there."""
    one, two = await site.make_publishable(), await site.make_publishable(EVIL)
    ann, ben = await site.visitor(one), await site.visitor(one)
    eve = (await site.ask("POST", "/widget/visitors", {}, key=two, origin=EVIL)).json["token"]
    posted = await say(site, ann, conversationId="c-1")
    run_id, reply = posted.headers["x-run-id"], posted.headers["x-message-id"]
    for other, origin in ((ben, SHOP), (eve, EVIL), (site.keys["ann"], None)):
        for method, path, body in (
            ("GET", "/conversations/c-1", None),
            ("GET", "/conversations/c-1/messages", None),
            ("GET", f"/chat/stream/{run_id}", None),
            ("GET", f"/runs/{run_id}", None),
            ("POST", f"/chat/stream/{run_id}/stop", None),
            ("POST", f"/messages/{reply}/regenerate", {}),
            ("PUT", f"/messages/{reply}/feedback", {"thumb": "up"}),
        ):
            assert (await site.ask(method, path, body, key=other, origin=origin)).status == 404, path
        listed = await site.ask("GET", "/conversations", key=other, origin=origin)
        assert listed.json["conversations"] == []
    assert len((await site.ask("GET", "/conversations", key=ann, origin=SHOP)).json["conversations"]) == 1


# Whose pages


@pytest.mark.parametrize(
    ("headers", "reads", "writes"),
    [
        ({"origin": SHOP}, True, True),
        ({"origin": "HTTPS://SHOP.EXAMPLE"}, True, True),
        ({"origin": OWN}, True, True),
        ({"origin": OWN, "sec_fetch_site": "same-origin"}, True, True),
        ({}, True, False),
        ({"sec_fetch_site": "same-origin"}, True, False),
        ({"sec_fetch_site": "cross-site"}, False, False),
        ({"sec_fetch_site": "none"}, False, False),
        ({"origin": LISTED}, False, False),
        ({"origin": EVIL}, False, False),
        ({"origin": "null"}, False, False),
        ({"origin": "http://shop.example"}, False, False),
        ({"origin": "https://shop.example:8443"}, False, False),
        ({"origin": "https://shop.example.evil"}, False, False),
        ({"origin": "https://other.example"}, False, False),
    ],
    ids=str,
)
async def test_only_pages_of_the_keys_origins_are_taken(
    site: Site, headers: dict[str, Any], reads: bool, writes: bool
) -> None:
    """And this server's own frame, which says no origin where it reads. Another key's origin is no help."""
    key = await site.make_publishable()
    await site.make_publishable("https://other.example")
    token = await site.visitor(key)
    read = await site.ask("GET", "/conversations", key=token, **headers)
    made = await site.ask("POST", "/widget/visitors", {}, key=key, **headers)
    posted = await site.ask("POST", "/chat/stream", {"message": "script: tokens=1"}, key=token, **headers, **JSON)
    assert [read.status, made.status, posted.status] == [
        200 if reads else 403,
        200 if writes else 403,
        200 if writes else 403,
    ]


async def test_a_widgets_origin_may_use_no_other_key(site: Site) -> None:
    """A secret key is refused in its pages, and so is what is no key; an origin that is allowed may, as ever."""
    await site.make_publishable()
    refused = await site.ask("GET", "/conversations", key=site.keys["ann"], origin=SHOP)
    assert (refused.status, "--publishable" in refused.json["detail"]) == (403, True)
    assert (await site.ask("GET", "/conversations", key="lk_wrong", origin=SHOP)).status == 401
    assert (await site.ask("GET", "/conversations", origin=SHOP)).status == 401
    assert (await site.ask("GET", "/conversations", key=site.keys["ann"], origin=LISTED)).status == 200
    assert (await site.ask("POST", "/sign-in", {"key": site.keys["ann"]}, origin=SHOP)).status == 403
    for body in (b"{}", None):
        answer = await site.ask("POST", "/widget/visitors", body, key=site.keys["ann"], origin=OWN)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize(("origin", "status"), [(SHOP, 204), (LISTED, 204), (EVIL, 403), ("null", 403)])
async def test_a_preflight_is_answered_for_known_origins(site: Site, origin: str, status: int) -> None:
    """Before any credential is there to be looked at, and without one."""
    await site.make_publishable()
    asked = {"origin": origin, "access_control_request_method": "POST"}
    answer = await site.ask("OPTIONS", "/chat/stream", **asked)
    assert answer.status == status
    assert answer.headers.get("access-control-allow-origin") == (origin if status == 204 else None)
    assert "access-control-allow-credentials" not in answer.headers


# Limits


async def test_a_visitor_has_limits_of_its_own(tmp_path: Path) -> None:
    """So many a minute; the next visitor and whoever holds a key are not touched, and it is told what is left."""
    async with open_site(tmp_path, widget_rate_limit="3/minute") as site:
        await site.make_keys(ann="admin")
        key = await site.make_publishable()
        token, other = await site.visitor(key), await site.visitor(key)
        left = []
        for _ in range(3):
            answer = await say(site, token)
            left.append(answer.headers["ratelimit-remaining"])
        assert left == ["2", "1", "0"]
        refused = await say(site, token)
        assert (refused.status, refused.json["code"]) == (429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert (await say(site, other)).status == 200
        body = {"message": "script: tokens=1"}
        assert (await site.ask("POST", "/chat/stream", body, key=site.keys["ann"])).status == 200


async def test_a_key_has_a_limit_over_all_its_visitors(tmp_path: Path) -> None:
    """However many there are; no visitor sees how much the others use."""
    async with open_site(tmp_path, widget_key_rate_limit="4/minute") as site:
        one, two = await site.make_publishable(), await site.make_publishable()
        answers = [await say(site, await site.visitor(one)) for _ in range(6)]
        assert [answer.status for answer in answers] == [200] * 4 + [429] * 2
        assert "widget" not in answers[0].headers["ratelimit-policy"]
        assert (await say(site, await site.visitor(two))).status == 200
        # What is refused counts for nothing.
        site.clock.shift_ms += 60_000
        assert (await say(site, await site.visitor(one))).status == 200


async def test_visitors_are_not_made_without_end(site: Site) -> None:
    """So many new ones a minute from one address; one who comes back is not new."""
    key = await site.make_publishable()
    token = await site.visitor(key)
    made = [site.ask("POST", "/widget/visitors", {}, key=key, origin=SHOP) for _ in range(VISITORS + 3)]
    statuses = [answer.status for answer in await asyncio.gather(*made)]
    assert (statuses.count(200), statuses.count(429)) == (VISITORS - 1, 4)
    assert await site.visitor(key, token)
    site.clock.shift_ms += 60_000
    assert await site.visitor(key)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), ([], 422), ({"token": 5}, 422), ({"token": "x" * 501}, 422), ({"zzz": 1}, 422), (None, 200)],
)
async def test_a_wrong_body_is_named(site: Site, body: Any, status: int) -> None:
    """And an absent one is a visitor who is new."""
    key = await site.make_publishable()
    assert (await site.ask("POST", "/widget/visitors", body, key=key, origin=SHOP)).status == status


async def test_the_publishable_spelling_of_a_secret_is_no_key(site: Site) -> None:
    """The words of one kind of key under the other's name open nothing."""
    publishable, secret = await site.make_publishable(), site.keys["ann"]
    for wrong in (publishable.replace("lp_", "lk_"), secret.replace("lk_", "lp_")):
        assert (await site.ask("GET", "/me", key=wrong, origin=OWN)).status == 401
