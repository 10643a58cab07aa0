"""The search index: which texts there are, by their words. With storage.search the seam that each database has its own
of.

On SQLite it is a full-text index (FTS5) beside `search_entry`, kept by triggers. Three things about it:

- Every word in it has the mark of its owner in front. What one owner asks for reads nothing of another's, however much
  there is, and the beginning of a word is one range.
- Its rows are numbered by time, so that the latest are found first without sorting.
- It is written behind the conversation, in pages of a few milliseconds: messages in the order of their keys up to
  `search_place.done_key`, then again those that were not ready (`search_due`). Whatever makes a page stale that was
  read before (a delete, another page) changes `version`, and the page is read anew. So nothing of it is written by a
  turn, and copies, imports and what an older version left are found like everything else.

PostgreSQL has an index over `search_entry` itself (storage.search_postgres). Keys are not committed in their order
there, so a trigger notes each message in `search_due`, and that is where pages come from. Any node writes the next
page; the row of `search_place` lets one at a time.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, case, column, delete, func, insert, literal_column, or_, select, table, text, update

# Of the two spellings this one compiles for SQLite too.
from sqlalchemy.dialects.postgresql import insert as insert_or_pass

from legato.core.search_text import words_of
from legato.storage.search_tables import search_due, search_entry, search_place
from legato.storage.search_words import kept_words
from legato.storage.statement import Prepared, Transaction, insert_into
from legato.storage.tables import conversation, message

PAGE_MESSAGES: Final = 20
PAGE_CHARS: Final = 10_000
"""A page ends behind the message with which it has come to so many characters: 1 to 4 ms of the writer's time."""
MOST_VECTOR_BYTES: Final = 1_000_000
"""PostgreSQL refuses vectors above 2**20 bytes."""
MERGE_PAGES: Final = 32
"""Of the index, as much is merged behind each page, which adds a handful: 1 to 5 ms."""
TITLE: Final = 0
"""In place of a message's key: the conversation's title."""
SALT_BITS: Final = 20
MOST_MS: Final = 2 ** (63 - SALT_BITS) - 2

_decode = msgspec.json.Decoder().decode
SEARCH_INDEX: Final = table("search_index", column("search_index"), column("rowid"), column("rank"))

_is_place = search_place.c.id == literal_column("1")
_PLACE = Prepared(select(search_place.c.done_key, search_place.c.version).where(_is_place))
_text_columns = (
    message.c.key,
    message.c.id,
    message.c.role,
    message.c.parts,
    message.c.status,
    message.c.depth,
    message.c.created_at_ms,
    conversation.c.key.label("conversation_key"),
    conversation.c.owner,
    conversation.c.title,
    conversation.c.last_message_at_ms,
    conversation.c.temporary,
)
_NEXT = Prepared(
    select(message.c.key.label("message_key"), *_text_columns)
    .join(conversation, conversation.c.key == message.c.conversation_key)
    .where(message.c.key > bindparam("done_key"))
    .order_by(message.c.key)
    .limit(bindparam("most"))
)
_DUE = Prepared(
    select(search_due.c.id.label("due_id"), search_due.c.message_key, *_text_columns)
    .join(conversation, conversation.c.key == search_due.c.conversation_key)
    .outerjoin(message, message.c.key == search_due.c.message_key)
    .where(
        or_(message.c.key.is_(None), message.c.status.not_in([literal_column("'queued'"), literal_column("'running'")]))
    )
    .order_by(search_due.c.id)
    .limit(bindparam("most"))
)
_MOVE_ON = Prepared(
    update(search_place)
    .where(_is_place, search_place.c.version == bindparam("seen"))
    .values(done_key=bindparam("new_done_key"), version=search_place.c.version + literal_column("1"))
)
_newest = select(func.coalesce(func.max(message.c.key), literal_column("0"))).scalar_subquery()
# SQLite gives the keys of deleted messages to the next ones.
_STEP_BACK = Prepared(
    update(search_place)
    .where(_is_place)
    .values(
        done_key=case((search_place.c.done_key > _newest, _newest), else_=search_place.c.done_key),
        version=search_place.c.version + literal_column("1"),
    )
)
_INSERT_DUE = insert_into(search_due, without="id")
_DELETE_DUE = Prepared(delete(search_due).where(search_due.c.id == bindparam("due_id")))
_INSERT = Prepared(
    insert_or_pass(search_entry)
    .values({each.name: bindparam(each.name) for each in search_entry.columns})
    .on_conflict_do_nothing(index_elements=[search_entry.c.key])
)
_DELETE = Prepared(
    delete(search_entry).where(
        search_entry.c.conversation_key == bindparam("of_conversation"),
        search_entry.c.message_key == bindparam("of_message"),
    )
)
# Finds nothing where a conversation is gone; until the transaction's end nobody deletes it.
_KEEP_CONVERSATION = Prepared(
    select(conversation.c.key)
    .where(conversation.c.key == bindparam("conversation_key"))
    .with_for_update(read=True, key_share=True)
)
# What FTS5 keeps of itself: a cookie of four bytes, then numbers: of levels, of pieces, of writes, and for each level
# how many of its pieces are being merged, how many it has, and three numbers a piece.
_STRUCTURE = Prepared(text("SELECT block FROM search_index_data WHERE id = 10"))
COOKIE_BYTES: Final = 4
_MERGE = Prepared(insert(SEARCH_INDEX).values(search_index=bindparam("command"), rank=bindparam("pages")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A text that can be found: what a message says, or a conversation's title."""

    owner: str
    conversation_key: int
    message_key: int
    at_ms: int
    words: str


@dataclass(slots=True, kw_only=True)
class IndexPage:
    """What is to be written next.

    Attributes:
        version: Of the place that it was read at; the page is stale when it has changed.
        done_key: Messages up to this key have been looked at then.
        done_dues: Of these it has been looked again.
        dues: (conversation, message) keys that are to be looked at again.
        more: There is more to be written behind it.
    """

    version: int
    done_key: int
    entries: list[Entry] = field(default_factory=list)
    done_dues: list[int] = field(default_factory=list)
    dues: list[tuple[int, int]] = field(default_factory=list)
    more: bool = False


def read_page(tx: Transaction) -> IndexPage | None:
    """Return what is to be written next, or None where the index is complete."""
    place = tx.one(_PLACE)
    page = IndexPage(version=place.version, done_key=place.done_key)
    chars = 0
    # A text that does not open is passed over, and not found any more.
    for row in tx.readable(_DUE, most=PAGE_MESSAGES)[0]:
        if chars >= PAGE_CHARS:
            page.more = True
            break
        chars += _look(page, row)
        page.done_dues.append(row.due_id)
    by_key = tx.database == "sqlite"
    rows = tx.readable(_NEXT, done_key=place.done_key, most=PAGE_MESSAGES + 1)[0] if by_key else []
    for row in rows[:PAGE_MESSAGES]:
        if chars >= PAGE_CHARS:
            break
        chars += _look(page, row)
        page.done_key = row.message_key
    page.more = page.more or len(page.done_dues) == PAGE_MESSAGES or bool(rows and rows[-1].message_key > page.done_key)
    return page if page.done_dues or page.done_key > place.done_key else None


def _look(page: IndexPage, row: Any) -> int:
    """Take a message or a title into a page; return how much there is to be written of it."""
    if row.temporary:
        return 0
    if row.status in ("queued", "running"):
        page.dues.append((row.conversation_key, row.message_key))
        return 0
    chars = 0
    if row.message_key == TITLE or row.depth == 1:
        chars += _add(page, row, TITLE, row.last_message_at_ms, row.title or "")
    if row.message_key != TITLE and row.status is not None:
        text = "" if row.parts is None else text_of(row.parts)
        chars += _add(page, row, row.message_key, row.created_at_ms, text)
    return chars


def _add(page: IndexPage, row: Any, message_key: int, at_ms: int, text: str) -> int:
    words = " ".join(words_of(text))
    page.entries.append(
        Entry(
            owner=row.owner,
            conversation_key=row.conversation_key,
            message_key=message_key,
            at_ms=at_ms,
            words=words,
        )
    )
    return len(words)


def text_of(parts: str) -> str:
    """Return the text of a message's parts, as JSON."""
    return "\n".join(part["text"] for part in _decode(parts) if part["type"] == "text")


def write_page(tx: Transaction, page: IndexPage) -> bool:
    """Write a page; return False where it has become stale and nothing was done.

    A text that is there already is replaced.
    """
    if tx.run(_MOVE_ON, seen=page.version, new_done_key=page.done_key) != 1:
        return False
    gone: set[int] = set()
    if tx.database == "postgresql":
        # In one order at every node. Who deletes one of them now waits, and takes along what is written here.
        keys = sorted({entry.conversation_key for entry in page.entries})
        gone = {key for key in keys if tx.one(_KEEP_CONVERSATION, conversation_key=key) is None}
    for due_id in page.done_dues:
        tx.run(_DELETE_DUE, due_id=due_id)
    for conversation_key, message_key in page.dues:
        tx.insert(_INSERT_DUE, conversation_key=conversation_key, message_key=message_key)
    for entry in page.entries:
        tx.run(_DELETE, of_conversation=entry.conversation_key, of_message=entry.message_key)
        if entry.words and entry.conversation_key not in gone:
            _insert(tx, entry)
    return True


def _insert(tx: Transaction, entry: Entry) -> None:
    at_ms = min(max(entry.at_ms, 0), MOST_MS)
    mark = mark_of(entry.owner)
    words = kept_words(tx, entry.owner, entry.words)
    if tx.database == "postgresql":
        words = _cut_words(mark, words)
    # A title comes before what is said in the same millisecond.
    first = (entry.message_key == TITLE) << (SALT_BITS - 1)
    while not tx.run(
        _INSERT,
        key=(at_ms << SALT_BITS) | first | random.getrandbits(SALT_BITS - 1),
        owner=entry.owner,
        conversation_key=entry.conversation_key,
        message_key=entry.message_key,
        mark=mark,
        words=words,
    ):
        # Taken by another text of this millisecond: what is found is some milliseconds off at most.
        at_ms = max(0, at_ms + random.randint(-8, 8))


def _cut_words(mark: str, words: str) -> str:
    """Return as many words of a text as its vector may hold."""
    each = words.split(" ")
    if len(words.encode()) + len(each) * len(mark) <= MOST_VECTOR_BYTES:
        return words
    left = MOST_VECTOR_BYTES
    for count, word in enumerate(each):
        left -= len(word.encode()) + len(mark) + 1
        if left < 0:
            return " ".join(each[:count])
    return words


def merge(tx: Transaction) -> None:
    """Merge a little of the index, if there is something to merge; PostgreSQL does so by itself."""
    if tx.database == "sqlite":
        tx.run(_MERGE, command="merge", pages=MERGE_PAGES)


def begin_compaction(tx: Transaction) -> bool:
    """Begin to bring the whole index into one piece; return whether there is anything to do.

    A word that is taken out stays in the index's pieces, beside a mark that it is gone, until they are merged into the
    last one.
    """
    if tx.database != "sqlite" or _pieces(tx)[0] < 2:
        return False
    tx.run(_MERGE, command="merge", pages=-MERGE_PAGES)
    return True


def compact(tx: Transaction) -> bool:
    """Go on with it for a moment; return whether there is more to do."""
    tx.run(_MERGE, command="merge", pages=MERGE_PAGES)
    return _pieces(tx)[1]


def _pieces(tx: Transaction) -> tuple[int, bool]:
    """Return how many pieces the index has, and whether some of them are being merged."""
    row = tx.tuples(_STRUCTURE)
    if not row:
        return 0, False
    numbers = _varints(bytes(row[0][0])[COOKIE_BYTES:])
    levels, pieces, _writes = next(numbers), next(numbers), next(numbers)
    merging = False
    for _ in range(levels):
        merging |= next(numbers) > 0
        for _ in range(next(numbers)):
            for _ in range(3):
                next(numbers)
    return pieces, merging


def _varints(data: bytes) -> Iterator[int]:
    """Read SQLite's numbers of variable length: seven bits a byte, the highest first."""
    value = 0
    for byte in data:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            yield value
            value = 0


def note_title(tx: Transaction, conversation_key: int) -> None:
    """Say that a conversation has another title."""
    tx.insert(_INSERT_DUE, conversation_key=conversation_key, message_key=TITLE)


def note_delete(tx: Transaction) -> None:
    """Say that messages have been deleted."""
    if tx.database == "sqlite":
        tx.run(_STEP_BACK)


def mark_of(owner: str) -> str:
    """Return what stands in front of every word of an owner."""
    return hashlib.blake2s(owner.encode(), digest_size=6).hexdigest()
