"""Accounts: people who sign in with a password, or at an issuer."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, UniqueConstraint

from legato.storage.tables import Prose, Word, metadata

account = Table(
    "account",
    metadata,
    Column("id", Word, primary_key=True),
    # What is typed to sign in with a password, folded; absent of who comes from an issuer alone.
    Column("name", Word, unique=True),
    # How people call it: the name as it was given, or the issuer's.
    Column("label", Prose, nullable=False),
    Column("owner", Word, nullable=False, index=True),
    Column("role", Word, nullable=False),
    Column("password_hash", Word),
    Column("password_at_ms", BigInteger),
    # The issuer's own name for the person; never an e-mail address.
    Column("issuer", Word),
    Column("subject", Word),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("disabled_at_ms", BigInteger),
    UniqueConstraint("issuer", "subject"),
)
