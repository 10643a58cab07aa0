"""The advisory locks of a PostgreSQL database, which are shared with whoever else uses it: one number each."""

from __future__ import annotations

from typing import Final

SPACE: Final = 0x6C656761
"""What all of Legato's have in front."""
MIGRATION: Final = 1
LEADER: Final = 2
"""Held by the node that does what one is to do for all, for as long as the session lives that renews its lease."""
QUEUE: Final = 3
"""Held by whoever adds jobs to the queue: their order is that of the adding."""
SLOTS: Final = 4
"""Held by a node that asks for slots of the replies that may be active."""
ENCRYPTION: Final = 5
"""Held by whoever turns encryption on or changes its root key; shared by whoever registers a node, or a command."""
