"""The configured models and the order in which they are asked."""

from __future__ import annotations

from collections.abc import Sequence

from legato.core.errors import InvalidRequest
from legato.providers.base import Provider
from legato.settings import nearest


class Models:
    """All models by name.

    Args:
        providers: Every configured model.
        order: Names of the model that answers by default and of those to fail over to.
    """

    def __init__(self, providers: Sequence[Provider], order: Sequence[str]) -> None:
        self._providers = {provider.name: provider for provider in providers}
        self.order = tuple(order)
        self._chain = tuple(self.find(name) for name in self.order)

    @property
    def names(self) -> list[str]:
        return sorted(self._providers)

    @property
    def providers(self) -> list[Provider]:
        return list(self._providers.values())

    def find(self, name: str) -> Provider:
        """Return the model of this name.

        Raises:
            InvalidRequest: It is not configured.
        """
        provider = self._providers.get(name)
        if provider is None:
            close = nearest(name, self.names)
            raise InvalidRequest.of(
                "model",
                f"{name!r} is not configured; configured are {', '.join(self.names) or 'none'}",
                nearest=close,
            )
        return provider

    def chain(self, name: str | None) -> Sequence[Provider]:
        """Return the models to ask, in order: `name`, or the default, and those that follow it in the list."""
        if name is None:
            return self._chain
        if name in self.order:
            return self._chain[self.order.index(name) :]
        return [self.find(name)]
