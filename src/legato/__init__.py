"""Legato: a streaming chat server whose replies reach their reader whole."""

from importlib.metadata import version

__version__ = version("legato")
