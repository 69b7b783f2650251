"""counter.py LOG GATE [ANYTHING ...]: a server that leaves traces.

Every start and every call is a line of JSON in the file LOG, written before anything is answered. `count` answers at once; `hold` answers
once the file GATE exists, and claims to change nothing.
"""

import json
import os
import sys
import time

import stdio

LOG, GATE = sys.argv[1:3]


def log(**event):
    line = json.dumps(dict(event, pid=os.getpid())) + "\n"
    file = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line.encode())
    os.close(file)


def called(tool, arguments, meta):
    log(event="call", tool=tool, note=arguments["note"], key=meta.get("io.station/idempotency-key"))


def count(arguments, meta):
    called("count", arguments, meta)
    return f"counted {arguments['note']}"


def hold(arguments, meta):
    called("hold", arguments, meta)
    while not os.path.exists(GATE):
        time.sleep(0.01)
    return f"held {arguments['note']}"


NOTE = stdio.schema(note="What to write down")
log(event="start")
stdio.serve("counter", {
    "count": ({"description": "Counts", "inputSchema": NOTE}, count),
    "hold": ({"description": "Counts, then waits", "inputSchema": NOTE, "annotations": {"readOnlyHint": True}}, hold),
})
