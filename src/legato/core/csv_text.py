"""Tables as CSV (RFC 4180) that a spreadsheet can open without danger. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula, also where full-width characters stand for them.

Source:
    https://owasp.org/www-community/attacks/CSV_Injection
"""


def csv_text(head: Sequence[str], rows: Iterable[Sequence[str | int | None]]) -> str:
    """Return a table as CSV, lines ended by CRLF; None is an empty cell.

    Texts are others' words: one that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow([_guarded(cell) if isinstance(cell, str) else cell for cell in row])
    return out.getvalue()


def _guarded(text: str) -> str:
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
