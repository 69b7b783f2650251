"""The least of an MCP server over stdio: handshake, tool list, calls side by side. Standard library only."""

import json
import sys
import threading

_write = threading.Lock()


def _send(message):
    with _write:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def _call(request, tools):
    params = request["params"]
    try:
        _, handler = tools[params["name"]]
        text, failed = handler(params.get("arguments") or {}, params.get("_meta") or {}), False
    except Exception as cause:
        text, failed = str(cause), True
    result = {"content": [{"type": "text", "text": text}], "isError": failed}
    _send({"jsonrpc": "2.0", "id": request["id"], "result": result})


def _answer(request, name, tools):
    method = request["method"]
    if method == "initialize":
        return {
            "protocolVersion": request["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": name, "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [dict(definition, name=tool) for tool, (definition, _) in tools.items()]}
    return {} if method == "ping" else None


def serve(name, tools):
    """`tools`: by name, a definition and a function of the arguments and `_meta` that gives the text. Ends with its input."""
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request or "method" not in request:
            continue
        if request["method"] == "tools/call":
            threading.Thread(target=_call, args=(request, tools), daemon=True).start()
            continue
        result = _answer(request, name, tools)
        if result is None:
            error = {"code": -32601, "message": "Method not found"}
            _send({"jsonrpc": "2.0", "id": request["id"], "error": error})
        else:
            _send({"jsonrpc": "2.0", "id": request["id"], "result": result})


def schema(**properties):
    """An object whose properties are all required texts."""
    return {
        "type": "object",
        "properties": {key: {"type": "string", "description": text} for key, text in properties.items()},
        "required": list(properties),
    }
