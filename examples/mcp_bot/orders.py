"""An MCP server over standard input and output: the orders of an invented shop. Legato starts it by itself."""

from mcp.server import MCPServer

server = MCPServer("orders")
ORDERS: dict[str, dict[str, str | int]] = {
    "1001": {"item": "a red kettle", "state": "on its way", "euros": 39},
    "1002": {"item": "two blue cups", "state": "being packed", "euros": 18},
}


@server.tool()
def find_order(number: str) -> dict[str, str | int]:
    """Tell what was ordered under a number, what it costs, and where it is.

    Args:
        number: The order's number: four digits.
    """
    if number not in ORDERS:
        raise ValueError(f"there is no order {number}")
    return ORDERS[number]


@server.tool()
def cancel_order(number: str, reason: str) -> str:
    """Cancel an order that was not sent yet.

    Args:
        number: The order's number: four digits.
        reason: Why, in the customer's words.
    """
    order = ORDERS.get(number)
    if order is None or order["state"] != "being packed":
        raise ValueError(f"order {number} cannot be cancelled: it is {order['state'] if order else 'not there'}")
    order["state"] = "cancelled"
    return f"Order {number} is cancelled."


if __name__ == "__main__":
    server.run()
