"""What anybody may ask of their own data over HTTP, and an admin of another's: archive, retention, holds, erasing."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from legato.http.archive import slug_of
from tests.asgi import AsgiAnswer
from tests.page_world import Site, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A server with keys for ann, an admin, and ben."""
    async with open_site(tmp_path) as opened:
        await opened.make_keys(ann="admin", ben="member")
        yield opened


def unpacked(answer: AsgiAnswer) -> dict[str, bytes]:
    """Return the files of an archive, each checked."""
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


async def fill(site: Site, owner: str, *names: str) -> None:
    """Have an owner say something in conversations, regenerate one reply and like it."""
    key = site.keys[owner]
    for name in names:
        body = {"title": f"{owner}/../..\\ <{name}> ünï", "id": name}
        assert (await site.ask("POST", "/conversations", body, key=key)).status == 201
        said = {"message": f"script: tokens=3 {name} word", "conversationId": name}
        assert (await site.ask("POST", "/chat/stream", said, key=key)).status == 200
        messages = (await site.ask("GET", f"/conversations/{name}/messages", key=key)).json["messages"]
        reply = messages[-1]["id"]
        await site.ask("PUT", f"/messages/{reply}/feedback", {"thumb": "up", "reason": f"{name} good"}, key=key)
        await site.ask("POST", f"/messages/{reply}/regenerate", {}, key=key)


async def test_an_archive_has_all_of_one_principal(site: Site) -> None:
    """Conversations with all branches as JSON, the active one as Markdown; usage, feedback, state; none of others'."""
    await fill(site, "ben", "one", "two")
    await fill(site, "ann", "hidden")
    answer = await site.ask("GET", "/me/export", key=site.keys["ben"])
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    files = unpacked(answer)
    names = {"README.txt", "profile.json", "feedback.json", "usage.json", "replies.json", "state.json", "access.json"}
    slug = "ben-one-uni"
    assert {*files} == names | {
        f"conversations/00000{n}-ben-{word}-uni.{end}" for n, word in ((1, "one"), (2, "two")) for end in ("json", "md")
    }
    document = json.loads(files[f"conversations/000001-{slug}.json"])
    assert document["format"] == "legato.conversation"
    assert len(document["messages"]) == 3, "both replies"
    assert b"one word" in files[f"conversations/000001-{slug}.md"]
    assert [each["feedback"]["reason"] for each in json.loads(files["feedback.json"])] == ["one good", "two good"]
    assert len(json.loads(files["usage.json"])) == 4
    profile = json.loads(files["profile.json"])
    assert (profile["id"], len(profile["keys"])) == ("ben", 1)
    assert "hash" not in str(profile)
    assert [each["action"] for each in json.loads(files["access.json"])] == ["principal.export"]
    assert b"hidden" not in b"".join(files.values())
    again = await site.ask("POST", "/conversations/import", document, key=site.keys["ben"])
    assert again.status == 201, "it is taken in again"


async def test_an_archive_of_nobody_is_whole(site: Site) -> None:
    """Who has nothing is given empty lists."""
    files = unpacked(await site.ask("GET", "/me/export", key=site.keys["ben"]))
    assert json.loads(files["usage.json"]) == json.loads(files["state.json"]) == []
    assert not [name for name in files if name.startswith("conversations/")]


async def test_an_archive_is_sent_while_it_is_made(site: Site) -> None:
    """Pieces of the size of a chunk, not one of all."""
    key = site.keys["ben"]
    for number in range(12):
        document = {
            "format": "legato.conversation",
            "version": 1,
            "conversation": {"title": f"t{number}"},
            "messages": [
                {"id": "u", "role": "user", "content": "".join(f"{n * 7919 % 65537:x}" for n in range(40_000))},
                {"id": "a", "parentId": "u", "role": "assistant", "content": "ok"},
            ],
        }
        made = await site.ask("POST", "/conversations/import", document, key=key)
        assert made.status == 201, made.body
    answer = await site.ask("GET", "/me/export", key=key)
    assert len(unpacked(answer)) == 7 + 24
    assert len(answer.pieces) > 12
    assert max(map(len, answer.pieces)) < 200_000


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Hello, World!", "-hello-world"),
        ("../../etc/passwd", "-etc-passwd"),
        ("C:\\con\x00", "-c-con"),
        ("日本語", ""),
        ("", ""),
        ("Ärger über Öl", "-arger-uber-ol"),
        ("x" * 500, "-" + "x" * 40),
    ],
)
def test_names_in_an_archive_are_plain(title: str, slug: str) -> None:
    """Letters and digits alone: no path, no name that a system reserves by itself."""
    assert slug_of(title) == slug


async def test_an_admin_gives_out_and_erases_what_somebody_has(site: Site) -> None:
    """Both are told to the audit log, by whom and of whom; a member may neither."""
    await fill(site, "ben", "one")
    ann, ben = site.keys["ann"], site.keys["ben"]
    files = unpacked(await site.ask("GET", "/admin/principals/ben/export", key=ann))
    assert any(b"one word" in data for data in files.values())
    assert (await site.ask("GET", "/admin/principals/ann/export", key=ben)).status == 403
    assert (await site.ask("DELETE", "/admin/principals/ann?confirm=ann", key=ben)).status == 403
    wrong = await site.ask("DELETE", "/admin/principals/ben?confirm=bem", key=ann)
    assert (wrong.status, wrong.json["code"]) == (422, "invalid_request")
    begun = await site.ask("DELETE", "/admin/principals/ben?confirm=ben", key=ann)
    assert begun.status == 202
    assert (await site.ask("GET", "/me", key=ben)).status == 401, "at once"
    listed = (await site.ask("GET", "/admin/erasures", key=ann)).json["erasures"]
    assert listed == [{"owner": "ben", "erasure": begun.json["erasure"]}]
    entries = (await site.ask("GET", "/admin/audit?owner=ben", key=ann)).json["entries"]
    assert [(each["actor"], each["via"], each["action"]) for each in entries] == [
        ("ann", "key", "principal.erase"),
        ("ann", "key", "principal.export"),
    ]


async def test_one_erases_oneself_by_ones_name(site: Site) -> None:
    """Nothing happens without it."""
    ben = site.keys["ben"]
    assert (await site.ask("DELETE", "/me", key=ben)).status == 422
    assert (await site.ask("DELETE", "/me?confirm=ann", key=ben)).status == 422
    assert (await site.ask("GET", "/me", key=ben)).status == 200
    assert (await site.ask("DELETE", "/me?confirm=ben", key=ben)).status == 202
    assert (await site.ask("GET", "/me", key=ben)).status == 401


async def test_what_is_held_answers_409(site: Site) -> None:
    """To a deletion of the conversation and of the person; the hold is an admin's alone."""
    await fill(site, "ben", "one")
    ann, ben = site.keys["ann"], site.keys["ben"]
    hold = "/admin/principals/ben/conversations/one/hold"
    assert (await site.ask("PUT", hold, key=ben)).status == 403
    assert (await site.ask("PUT", "/admin/principals/ben/conversations/none/hold", key=ann)).status == 404
    assert (await site.ask("PUT", hold, key=ann)).json["heldConversations"] == ["one"]
    for path in ("/conversations/one", "/me?confirm=ben"):
        refused = await site.ask("DELETE", path, key=ben)
        assert (refused.status, refused.json["code"]) == (409, "legal_hold")
    assert (await site.ask("GET", "/me/retention", key=ben)).json["heldConversations"] == ["one"]
    assert (await site.ask("DELETE", hold, key=ann)).json["heldConversations"] == []
    assert (await site.ask("PUT", "/admin/principals/ben/hold", key=ann)).json["heldAt"] is not None
    assert (await site.ask("DELETE", "/conversations/one", key=ben)).status == 409
    assert (await site.ask("DELETE", "/admin/principals/ben/hold", key=ann)).json["heldAt"] is None
    assert (await site.ask("DELETE", "/conversations/one", key=ben)).status == 204


async def test_retention_is_set_for_oneself_and_by_an_admin(site: Site) -> None:
    """And shown with what the default is."""
    ann, ben = site.keys["ann"], site.keys["ben"]
    assert (await site.ask("GET", "/me/retention", key=ben)).json == {
        "owner": "ben",
        "retention": "default",
        "defaultHours": 24.0,
        "heldAt": None,
        "heldConversations": [],
    }
    assert (await site.ask("PUT", "/me/retention", {"retention": "48h"}, key=ben)).json["retention"] == "2d"
    assert (await site.ask("GET", "/admin/principals/ben", key=ann)).json["retention"] == "2d"
    put = await site.ask("PUT", "/admin/principals/ben/retention", {"retention": "keep"}, key=ann)
    assert put.json["retention"] == "keep"
    assert (await site.ask("PUT", "/me/retention", {"retention": "sometimes"}, key=ben)).status == 422


async def test_the_audit_log_over_http(site: Site) -> None:
    """Pages of it, all of it as JSON lines and CSV, and whether it is whole; for admins."""
    ann, ben = site.keys["ann"], site.keys["ben"]
    for number in range(5):
        await site.ask("PUT", "/me/retention", {"retention": f"{number + 1}h"}, key=ben)
    for path in ("/admin/audit", "/admin/audit/export", "/admin/audit/verify"):
        assert (await site.ask("GET", path, key=ben)).status == 403
    first = (await site.ask("GET", "/admin/audit?limit=2&action=retention.change", key=ann)).json
    second = (
        await site.ask("GET", f"/admin/audit?limit=9&action=retention.change&cursor={first['nextCursor']}", key=ann)
    ).json
    told = [each["detail"]["retention"] for each in (*first["entries"], *second["entries"])]
    assert told == ["5h", "4h", "3h", "2h", "1h"]
    assert second["nextCursor"] is None
    assert (await site.ask("GET", "/admin/audit?owner=a&actor=b", key=ann)).status == 422
    lines = (await site.ask("GET", "/admin/audit/export", key=ann)).body.decode().splitlines()
    shown = [json.loads(line) for line in lines]
    assert [each["seq"] for each in shown] == list(range(1, len(shown) + 1))
    assert shown[-1]["action"] == "audit.export"
    table = (await site.ask("GET", "/admin/audit/export?as=csv&after=1", key=ann)).body.decode().splitlines()
    assert table[0] == "seq,at,actor,via,keyId,action,subject,owner,detail,hash"
    assert len(table) == 1 + len(shown)
    verdict = (await site.ask("GET", "/admin/audit/verify", key=ann)).json
    assert (verdict["whole"], verdict["fault"], verdict["headSeq"]) == (True, None, len(shown) + 1)


async def test_exports_imports_and_deletes_are_told(site: Site) -> None:
    """Each with its conversation and owner, none with a word of it."""
    await fill(site, "ben", "one")
    ben = site.keys["ben"]
    document = (await site.ask("GET", "/conversations/one/export", key=ben)).json
    made = (await site.ask("POST", "/conversations/import", document, key=ben)).json["id"]
    await site.ask("DELETE", f"/conversations/{made}", key=ben)
    entries = (await site.ask("GET", "/admin/audit?owner=ben", key=site.keys["ann"])).json["entries"]
    assert [(each["action"], each["subject"]) for each in entries][::-1] == [
        ("conversation.export", "one"),
        ("conversation.import", made),
        ("conversation.delete", made),
    ]
    assert "word" not in json.dumps(entries)
