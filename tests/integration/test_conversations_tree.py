"""The tree of a conversation: edits and further replies are siblings, branches are switched, forks are copies."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from legato.http.api import create_api
from legato.providers.scripted import ScriptedProvider, reply
from legato.runs.node import Node
from tests.asgi import call
from tests.client import Answer, Client, Event, text_of
from tests.conftest import OpenNode


class Talk:
    """One conversation over HTTP."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.name = f"c-{uuid.uuid4().hex}"
        self.path = f"/conversations/{self.name}"

    def say(self, seed: int, **fields: object) -> str:
        """Post a message that is answered by `reply(seed, 2)`; return the reply's id."""
        events = self.client.say(f"script: seed={seed} tokens=2", conversationId=self.name, **fields)
        return str(events[-1].data["messageId"])

    def messages(self, query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get(f"{self.path}/messages{query}")["messages"]
        return found

    def seeds(self, query: str = "") -> list[int]:
        """Which replies the branch holds, by their seed."""
        said = {reply(seed, 2): seed for seed in range(100)}
        return [said[message["content"]] for message in self.messages(query)[1::2]]

    def regenerate(self, message_id: str, **fields: object) -> list[Event]:
        return self.client.open("POST", f"/messages/{message_id}/regenerate", fields).rest()

    def fork(self, **fields: object) -> Answer:
        return self.client.ask("POST", f"{self.path}/fork", fields)


@pytest.fixture
def talk(client: Client) -> Talk:
    return Talk(client)


def test_an_edit_is_a_sibling(talk: Talk) -> None:
    """A post behind an earlier reply opens a branch; the old one is kept, and can be read by its leaf."""
    first = talk.say(1)
    old = [talk.say(2), talk.say(3)][-1]
    new = talk.say(12, parentId=first)
    assert talk.seeds() == [1, 12]
    assert talk.seeds(f"?leafId={old}") == [1, 2, 3]
    assert talk.seeds(f"?leafId={new}") == [1, 12]
    messages = talk.messages()
    assert [message["parentId"] for message in messages] == [None, *(message["id"] for message in messages[:-1])]
    assert talk.client.get(talk.path)["messageCount"] == 8


def test_an_edit_of_the_first_message_has_no_parent(talk: Talk) -> None:
    """`parentId: null` begins anew in the same conversation."""
    old = [talk.say(1), talk.say(2)][-1]
    talk.say(11, parentId=None)
    assert talk.seeds() == [11]
    assert talk.messages()[0]["parentId"] is None
    assert talk.seeds(f"?leafId={old}") == [1, 2]
    talk.say(12)
    assert talk.seeds() == [11, 12]


def test_branches_of_branches_keep_their_paths(talk: Talk) -> None:
    """Edits of edits at every depth: each leaf's path is its own, whatever else there is."""
    a = talk.say(1)
    b = talk.say(2)
    c = talk.say(3)
    d = talk.say(4, parentId=a)
    e = talk.say(5)
    f = talk.say(6, parentId=d)
    g = talk.say(7, parentId=b)
    h = talk.say(8, parentId=c)
    i = talk.say(9, parentId=a)
    paths = {c: [1, 2, 3], e: [1, 4, 5], f: [1, 4, 6], g: [1, 2, 7], h: [1, 2, 3, 8], i: [1, 9]}
    assert {leaf: talk.seeds(f"?leafId={leaf}") for leaf in paths} == paths
    for leaf, seeds in paths.items():
        one_by_one = [
            message["content"]
            for depth in range(2 * len(seeds))
            for message in talk.messages(f"?leafId={leaf}&limit=1&cursor={depth}")
        ]
        assert one_by_one[1::2] == [reply(seed, 2) for seed in seeds]


def test_a_post_behind_the_leaf_is_no_branch(talk: Talk) -> None:
    """Naming the active leaf as parent is what a post without a parent does."""
    first = talk.say(1)
    talk.say(2, parentId=first)
    assert talk.seeds() == [1, 2]


@pytest.mark.parametrize("parent", ["m-none", "the question", "another conversation's reply"])
def test_a_parent_must_be_a_reply_of_the_conversation(client: Client, talk: Talk, parent: str) -> None:
    """422 names `parentId`, and nothing is stored."""
    talk.say(1)
    if parent == "the question":
        parent = talk.messages()[0]["id"]
    elif parent != "m-none":
        parent = Talk(client).say(1)
    body = {"message": "x", "conversationId": talk.name, "parentId": parent}
    answer = client.ask("POST", "/chat/stream", body, {"Accept": "application/json"})
    assert (answer.status, [error["field"] for error in answer.json["errors"]]) == (422, ["parentId"])
    assert talk.seeds() == [1]


def test_a_further_reply_is_a_sibling(talk: Talk) -> None:
    """Regenerate answers the same question again; the first reply stays where it was."""
    talk.say(1)
    old = talk.say(2)
    question = talk.messages()[2]
    events = talk.regenerate(old)
    new = events[-1].data["messageId"]
    assert (text_of(events), events[-1].data["messageCount"]) == (reply(2, 2), 5)
    messages = talk.messages()
    assert [message["id"] for message in messages[2:]] == [question["id"], new]
    assert messages[3]["parentId"] == question["id"]
    assert talk.messages(f"?leafId={old}")[3]["id"] == old
    talk.say(3)
    assert talk.seeds() == [1, 2, 3]
    assert talk.messages()[3]["id"] == new


def test_a_further_reply_takes_settings_and_a_key(client: Client, talk: Talk) -> None:
    """Another model for this once; a repeat of the key is the same run."""
    old = talk.say(1)
    events = talk.regenerate(old, model="other", maxTokens=1, requestId=f"k-{old}")
    assert (events[-1].data["model"], events[-1].data["finishReason"]) == ("other", "length")
    again = talk.regenerate(old, model="other", maxTokens=1, requestId=f"k-{old}")
    assert [event.raw for event in again] == [event.raw for event in events]
    path, asked = f"/messages/{old}/regenerate", {"model": "other", "maxTokens": 1}
    by_header = client.open("POST", path, asked, {"Idempotency-Key": f"k-{old}"}).rest()
    assert [event.raw for event in by_header] == [event.raw for event in events], "in the header it is the same key"
    answer = client.ask("POST", path, {"requestId": f"k-{old}"})
    assert (answer.status, answer.code) == (422, "idempotency_key_reused")
    assert client.ask("POST", path).status == 200, "a body is not needed"


def test_only_a_reply_is_regenerated(client: Client, talk: Talk) -> None:
    """Naming a question is 422."""
    talk.say(1)
    answer = client.ask("POST", f"/messages/{talk.messages()[0]['id']}/regenerate")
    assert (answer.status, answer.code) == (422, "invalid_request")


def test_a_branch_is_switched(talk: Talk) -> None:
    """The active branch is the one that `leafId` ends; the next message goes there."""
    first = talk.say(1)
    old = talk.say(2)
    new = talk.say(3, parentId=first)
    assert talk.client.get(talk.path)["leafId"] == new
    assert talk.client.ask("PATCH", talk.path, {"leafId": old}).json["leafId"] == old
    assert talk.seeds() == [1, 2]
    talk.say(4)
    assert talk.seeds() == [1, 2, 4]
    talk.client.ask("PATCH", talk.path, {"leafId": first})
    assert talk.seeds() == [1]
    talk.say(5)
    assert talk.seeds() == [1, 5]


@pytest.mark.parametrize(
    ("leaf", "status", "code"),
    [("m-none", 404, "not_found"), (None, 422, "invalid_request"), ("the question", 409, "conflict")],
)
def test_a_branch_ends_in_a_reply(talk: Talk, leaf: str | None, status: int, code: str) -> None:
    """What is no reply of this conversation is refused, and nothing changes."""
    reply_id = talk.say(1)
    leaf = talk.messages()[0]["id"] if leaf == "the question" else leaf
    answer = talk.client.ask("PATCH", talk.path, {"leafId": leaf, "title": "new"})
    assert (answer.status, answer.code) == (status, code)
    found = talk.client.get(talk.path)
    assert (found["leafId"], found["titleSource"]) == (reply_id, "words")


def test_a_branch_is_not_switched_while_a_reply_is_made(talk: Talk) -> None:
    """409; the reply that is being made is the leaf."""
    first = talk.say(1)
    stream = talk.client.post("script: tokens=9 stall=1", conversationId=talk.name)
    stream.take(1)
    assert talk.client.ask("PATCH", talk.path, {"leafId": first}).code == "conflict"
    assert talk.client.ask("PATCH", talk.path, {"title": "x"}).status == 200
    talk.client.ask("POST", f"/chat/stream/{stream.run_id}/stop")
    stream.rest()
    assert talk.client.ask("PATCH", talk.path, {"leafId": first}).status == 200


@pytest.mark.parametrize("leaf", ["m-none", "another conversation's"])
@pytest.mark.parametrize("cursor", ["", "&cursor=1"])
def test_an_unknown_leaf_is_not_found(client: Client, talk: Talk, leaf: str, cursor: str) -> None:
    """Also on a later page."""
    talk.say(1)
    other = Talk(client).say(1) if leaf != "m-none" else leaf
    assert client.ask("GET", f"{talk.path}/messages?leafId={other}{cursor}").status == 404


def test_a_fork_is_a_copy(talk: Talk) -> None:
    """The active branch with its settings under a new id; each goes its own way from there."""
    talk.client.ask("POST", "/conversations", {"id": talk.name, "title": "T", "systemPrompt": "S", "maxTokens": 9})
    first = talk.say(1)
    talk.say(2)
    talk.say(3, parentId=first)
    made = talk.fork(title="Copy")
    assert made.status == 201
    copy = Talk(talk.client)
    copy.name, copy.path = made.json["id"], f"/conversations/{made.json['id']}"
    assert (made.json["title"], made.json["systemPrompt"], made.json["maxTokens"]) == ("Copy", "S", 9)
    assert (made.json["messageCount"], copy.seeds()) == (4, [1, 3])
    mine, theirs = talk.messages(), copy.messages()
    assert not {message["id"] for message in mine} & {message["id"] for message in theirs}
    assert [message["timestamp"] for message in mine] == [message["timestamp"] for message in theirs]
    copy.say(4)
    assert (copy.seeds(), talk.seeds()) == ([1, 3, 4], [1, 3])
    copy.say(5, parentId=theirs[1]["id"])
    copy.regenerate(copy.messages()[3]["id"])
    assert copy.seeds() == [1, 5]
    talk.client.ask("DELETE", talk.path)
    assert copy.seeds() == [1, 5]


def test_a_fork_ends_where_it_is_told(talk: Talk) -> None:
    """At any reply of any branch."""
    first = talk.say(1)
    old = talk.say(2)
    talk.say(3, parentId=first)
    for leaf, seeds in ((first, [1]), (old, [1, 2])):
        made = talk.fork(messageId=leaf).json
        copy = Talk(talk.client)
        copy.name, copy.path = made["id"], f"/conversations/{made['id']}"
        assert copy.seeds() == seeds


@pytest.mark.parametrize(
    ("what", "status"), [("m-none", 404), ("another conversation's", 404), ("the question", 409), ("the id", 409)]
)
def test_a_fork_that_cannot_be_is_refused(client: Client, talk: Talk, what: str, status: int) -> None:
    """No such message, a question for an end, an id that is taken: nothing is made."""
    talk.say(1)
    fields: dict[str, object] = {"messageId": what}
    if what == "the id":
        fields = {"id": talk.name}
    elif what == "the question":
        fields["messageId"] = talk.messages()[0]["id"]
    elif what != "m-none":
        fields["messageId"] = Talk(client).say(1)
    before = client.get("/conversations?limit=1")
    assert talk.fork(**fields).status == status
    assert client.get("/conversations?limit=1") == before


def test_a_fork_waits_for_no_reply(talk: Talk) -> None:
    """While one is being made the branch cannot be copied, but an earlier end can."""
    first = talk.say(1)
    stream = talk.client.post("script: tokens=9 stall=1", conversationId=talk.name)
    stream.take(1)
    assert talk.fork().code == "conflict"
    assert talk.fork(messageId=stream["x-message-id"]).code == "conflict"
    assert talk.fork(messageId=first).json["messageCount"] == 2
    talk.client.ask("POST", f"/chat/stream/{stream.run_id}/stop")
    stream.rest()
    assert talk.fork().json["messageCount"] == 4


def test_an_empty_conversation_can_be_forked(talk: Talk) -> None:
    """Its settings are the copy."""
    talk.client.ask("POST", "/conversations", {"id": talk.name, "systemPrompt": "S"})
    made = talk.fork().json
    assert (made["messageCount"], made["leafId"], made["systemPrompt"]) == (0, None, "S")
    assert talk.client.say("script: tokens=1", conversationId=made["id"])[-1].data["messageCount"] == 2


def test_feedback_is_kept_with_the_reply(talk: Talk) -> None:
    """Thumb and reason, changed and taken back; for replies alone."""
    message_id = talk.say(1)
    path = f"/messages/{message_id}/feedback"
    given = talk.client.ask("PUT", path, {"thumb": "down", "reason": "wrong é"}).json["feedback"]
    assert (given["thumb"], given["reason"]) == ("down", "wrong é")
    assert talk.messages()[1]["feedback"] == given
    assert talk.client.ask("PUT", path, {"thumb": "up"}).json["feedback"]["reason"] is None
    assert talk.client.ask("PUT", path, {"thumb": None}).json["feedback"] is None
    assert talk.messages()[1]["feedback"] is None
    answer = talk.client.ask("PUT", f"/messages/{talk.messages()[0]['id']}/feedback", {"thumb": "up"})
    assert (answer.status, answer.code) == (409, "conflict")


# What the model is given


def seen(node: Node) -> list[tuple[list[tuple[str, str]], float | None, int]]:
    """What the scripted models were asked: messages, temperature, longest reply."""
    providers = [provider for provider in node.models.providers if isinstance(provider, ScriptedProvider)]
    requests = [request for provider in providers for request in provider.requests]
    return [([(m.role, m.content) for m in r.messages], r.temperature, r.max_tokens) for r in requests]


async def ask(node: Node, message: str, **fields: object) -> None:
    answer = await call(create_api(node), "POST", "/chat/stream", {"message": message} | fields)
    assert b"event: complete" in answer.body


async def test_a_model_is_given_the_history(node: Node) -> None:
    """All turns of the active branch in order, then the question; defaults where nothing is set."""
    await ask(node, "script: seed=1 tokens=2", conversationId="c")
    await ask(node, "script: seed=2 tokens=2", conversationId="c")
    first, second = seen(node)
    assert first == ([("user", "script: seed=1 tokens=2")], 0.7, 2000)
    assert second[0] == [
        ("user", "script: seed=1 tokens=2"),
        ("assistant", reply(1, 2)),
        ("user", "script: seed=2 tokens=2"),
    ]


async def test_a_conversations_settings_reach_the_model(node: Node) -> None:
    """System prompt, temperature and length of the conversation, of this message before them; never doubled."""
    api = create_api(node)
    settings = {"id": "c", "systemPrompt": "Of the conversation.", "temperature": 0.1, "maxTokens": 50}
    assert (await call(api, "POST", "/conversations", settings)).status == 201
    await ask(node, "script: tokens=1", conversationId="c")
    await ask(node, "script: tokens=1", conversationId="c", systemPrompt="Of now.", temperature=0, maxTokens=60)
    await call(api, "PATCH", "/conversations/c", {"systemPrompt": "New.", "temperature": None, "model": "other"})
    await ask(node, "script: tokens=1", conversationId="c")
    found = seen(node)
    assert [request[0][0] for request in found] == [
        ("system", "Of the conversation."),
        ("system", "Of now."),
        ("system", "New."),
    ]
    assert [request[1:] for request in found] == [(0.1, 50), (0.0, 60), (0.7, 50)]
    assert all([role for role, _ in request[0]].count("system") == 1 for request in found)
    rows = (await call(api, "GET", "/conversations/c/messages")).json["messages"]
    assert [row["model"] for row in rows[1::2]] == ["scripted", "scripted", "other"]
    assert {row["role"] for row in rows} == {"user", "assistant"}, "a system prompt is no message"


async def test_the_servers_system_prompt_is_the_default(open_test_node: OpenNode) -> None:
    """Where neither message nor conversation has one."""
    async with open_test_node(system_prompt="Of the server.") as node:
        await ask(node, "script: tokens=1", conversationId="c")
        await ask(node, "script: tokens=1", systemPrompt="Of now.")
        assert [request[0][0][1] for request in seen(node)] == ["Of the server.", "Of now."]


async def test_a_model_is_given_its_own_branch(node: Node) -> None:
    """An edit and a further reply see the path above them, and nothing of the other branches."""
    api = create_api(node)
    for seed in (1, 2):
        await ask(node, f"script: seed={seed} tokens=2", conversationId="c")
    rows = (await call(api, "GET", "/conversations/c/messages")).json["messages"]
    await ask(node, "script: seed=3 tokens=2", conversationId="c", parentId=rows[1]["id"])
    await call(api, "POST", f"/messages/{rows[3]['id']}/regenerate")
    await ask(node, "script: seed=4 tokens=2", conversationId="c", parentId=None)
    edit, further, anew = [[content for _, content in request[0]] for request in seen(node)[2:]]
    assert edit == ["script: seed=1 tokens=2", reply(1, 2), "script: seed=3 tokens=2"]
    assert further == ["script: seed=1 tokens=2", reply(1, 2), "script: seed=2 tokens=2"]
    assert anew == ["script: seed=4 tokens=2"]
