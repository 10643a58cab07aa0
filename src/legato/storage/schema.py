"""The whole schema: the tables that each part declares, brought together for migrations."""

from __future__ import annotations

from legato.storage.tables import metadata

__all__ = ["metadata"]
