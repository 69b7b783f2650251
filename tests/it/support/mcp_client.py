"""Calls one tool with the MCP SDK from PyPI and prints its structured content as JSON.

mcp_client.py auto|legacy TOOL ARGUMENTS http URL KEY
mcp_client.py auto|legacy TOOL ARGUMENTS stdio COMMAND [ARGUMENT ...]   (with this process's own environment)
"""

import asyncio
import json
import os
import sys

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


async def call(transport, mode, tool, arguments):
    async with Client(transport, mode=mode) as client:
        result = await client.call_tool(tool, arguments)
        print(json.dumps({
            "version": client.protocol_version,
            "is_error": bool(result.is_error),
            "content": result.structured_content,
        }))


async def main():
    mode, tool, arguments, door, *rest = sys.argv[1:]
    arguments = json.loads(arguments)
    if door == "http":
        url, key = rest
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False) as http:
            await call(streamable_http_client(url, http_client=http), mode, tool, arguments)
    else:
        command, *given = rest
        server = StdioServerParameters(command=command, args=given, env=dict(os.environ))
        await call(stdio_client(server), mode, tool, arguments)


asyncio.run(main())
