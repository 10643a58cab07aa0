"""A program that speaks just enough of MCP's 2025 form to misbehave in it; its first argument says how."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

WAY = sys.argv[1]


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def tool(name: str) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}}


def result_of(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


def call(request: dict[str, Any], called: list[str]) -> None:
    name = request["params"]["name"]
    called.append(name)
    match name:
        case "flood":
            # One message without an end.
            while True:
                sys.stdout.write("x" * 65536)
        case "big":
            send({"id": request["id"], "result": result_of("x" * 6_000_000)})
        case "nonsense":
            send({"id": request["id"], "result": {"content": 7}})
        case "ask":
            send({"id": request["id"], "result": {"resultType": "input_required", "inputRequests": {}}})
        case "change":
            send({"method": "notifications/tools/list_changed"})
            send({"id": request["id"], "result": result_of("changed")})
        case "noise":
            sys.stdout.write("this is no message\n\n{\n")
            send({"id": 987654, "result": {}})
            send({"id": request["id"], "result": result_of("heard")})
        case _:
            send({"id": request["id"], "result": result_of(f"called {name}")})


def main() -> None:
    called: list[str] = []
    if WAY == "silent":
        time.sleep(3600)
    if WAY == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if WAY == "fails":
        sys.exit("cannot start: DOCS_TOKEN=abcdefgh1234 is wrong")
    for line in sys.stdin:
        request = json.loads(line)
        match request.get("method"):
            case "initialize":
                capabilities = {"tools": {"listChanged": True}}
                info = {"name": "misbehaving", "version": "1"}
                found = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
                send({"id": request["id"], "result": found})
            case "tools/list" if WAY == "bad list":
                send({"id": request["id"], "result": {"tools": [{"name": 7}]}})
            case "tools/list" if WAY == "endless list":
                send({"id": request["id"], "result": {"tools": [tool("echo")], "nextCursor": "again"}})
            case "tools/list" if WAY == "long list":
                send({"id": request["id"], "result": {"tools": [tool(f"tool{n}") for n in range(1000)]}})
            case "tools/list":
                names = ["flood", "big", "nonsense", "ask", "change", "noise", "echo"]
                names += ["added"] if "change" in called else []
                send({"id": request["id"], "result": {"tools": [tool(name) for name in names]}})
            case "tools/call":
                call(request, called)
            case method if "id" in request and method:
                send({"id": request["id"], "error": {"code": -32601, "message": "method not found"}})
    if WAY == "stubborn":
        time.sleep(3600)


if __name__ == "__main__":
    main()
