"""A bot whose tools come from an MCP server; legato.toml says which, and which call a person must agree to."""

from legato import Legato

app = Legato(
    system_prompt="You help the customers of a shop for kitchenware with their orders. "
    "Look an order up before you say anything about it.",
)
