"""Flows as tools, and tools for flows: MCP, with the SDK of its authors on the other side."""

import asyncio
import contextlib
import socket
import threading

import httpx
import httpx2
import pytest
import uvicorn
from conftest import Server, Simulator, upstream_config, wait_until
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from test_langgraph import ASK, CHAT, SLOW, publish


def drive(server, work, mode, key=None):
    async def run():
        headers = {"authorization": f"Bearer {key or server.key}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
            transport = streamable_http_client(f"{server.url}/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                return await work(client)

    return asyncio.run(run())


@pytest.fixture
def flows(server):
    for text in (CHAT, ASK):
        publish(server, text)
    return server


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
def test_flows_are_tools_in_every_version(flows, mode):
    async def work(client):
        tools = (await client.list_tools()).tools
        asked = {"messages": [{"role": "user", "content": "[[say:hello there]]"}]}
        progress = []

        async def note(done, total, message):
            progress.append(message)

        answer = await client.call_tool("chat", asked)
        streamed = await client.call_tool("chat", asked, progress_callback=note)
        waiting = await client.call_tool("review", {})
        thread = waiting.structured_content["thread_id"]
        done = await client.call_tool("answer_question", {"thread_id": thread, "answer": {"ok": True}})
        failed = await client.call_tool("chat", {"messages": [{"role": "user", "content": "[[fail:400]]"}]})
        return client.protocol_version, tools, answer, streamed, progress, waiting, done, failed

    version, tools, answer, streamed, progress, waiting, done, failed = drive(flows, work, mode)
    assert version == ("2025-11-25" if mode == "legacy" else "2026-07-28")
    assert [tool.name for tool in tools] == ["answer_question", "chat", "review"]
    assert "messages" in tools[1].input_schema["properties"] and tools[1].description == "Answers."
    for one in (answer, streamed):
        assert not one.is_error and one.structured_content["messages"][-1]["content"] == "hello there"
    assert "".join(progress) == "hello there"
    assert waiting.structured_content["status"] == "waiting"
    assert waiting.structured_content["questions"][0]["message"] == "Is a draft good?"
    assert done.structured_content["verdict"] == {"ok": True}
    assert failed.is_error and "upstream" in failed.content[0].text


def call(server, method, params, key=None, **headers):
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    own = {"authorization": f"Bearer {key or server.key}", "accept": "application/json, text/event-stream", **headers}
    return httpx.post(f"{server.url}/mcp", json=body, headers=own)


def test_mistakes_are_told_and_what_is_anothers_is_not_there(flows):
    assert httpx.post(f"{flows.url}/mcp", json={}).status_code == 401
    assert httpx.get(f"{flows.url}/mcp", headers={"x-api-key": flows.key}).status_code == 405
    assert call(flows, "nothing", {}).json()["error"]["code"] == -32601
    assert call(flows, "tools/call", {"name": "nobody"}).json()["error"]["code"] == -32602
    modern = {"mcp-protocol-version": "2026-07-28"}
    mismatch = call(flows, "tools/list", {}, **modern, **{"mcp-method": "tools/call"})
    assert mismatch.status_code == 400 and mismatch.json()["error"]["code"] == -32020
    unknown = call(flows, "tools/list", {}, **{"mcp-protocol-version": "1999-01-01"})
    assert unknown.json()["error"]["code"] == -32022 and "2026-07-28" in unknown.json()["error"]["data"]["supported"]
    waiting = call(flows, "tools/call", {"name": "review"}).json()["result"]["structuredContent"]
    _, other = flows.customer("5")
    assert [tool["name"] for tool in call(flows, "tools/list", {}, other).json()["result"]["tools"]] == ["answer_question"]
    answer = {"name": "answer_question", "arguments": {"thread_id": waiting["thread_id"], "answer": {"ok": True}}}
    assert call(flows, "tools/call", answer, other).json()["error"]["data"]["code"] == "thread_not_found"
    assert call(flows, "tools/call", {"name": "chat"}, other).json()["error"]["code"] == -32602
    assert call(flows, "tools/call", answer).json()["result"]["isError"] is False


def test_closing_the_connection_gives_a_call_up(start):
    upstream = start(Simulator, "--interval-ms", "20")
    server = start(Server, upstream_config(upstream.url))
    publish(server, SLOW)
    headers = {"x-api-key": server.key, "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "slow"}
    params = {"name": "slow", "arguments": {}, "_meta": {"progressToken": 1}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    with httpx.stream("POST", f"{server.url}/mcp", json=body, headers=headers) as answer:
        next(answer.iter_lines())
    [row] = wait_until(server.usage, "the call's end", 10)
    assert row["client_gone"] and 0 < row["output_tokens"] < 2000


@contextlib.contextmanager
def tools():
    """An MCP server with two tools, on a port of its own."""
    server = MCPServer("shelf")
    seen = []

    @server.tool()
    def add(a: int, b: int) -> dict[str, int]:
        """Adds two numbers."""
        seen.append((a, b))
        return {"sum": a + b}

    @server.tool()
    def fail() -> str:
        """Never works."""
        raise ToolError("not today")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runner = uvicorn.Server(uvicorn.Config(server.streamable_http_app(), port=port, log_level="error"))
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    wait_until(lambda: runner.started, "the tools' server")
    try:
        yield port, seen
    finally:
        runner.should_exit = True
        thread.join(10)


ADD = """
name: adder
description: Adds by a tool.
nodes:
  add: {type: tool, config: {tool: shelf__add, arguments: {a: "= int(a)", b: 2}, output: total}}
output: "= total"
"""
FAIL = "name: failing\nnodes: {a: {type: tool, config: {tool: shelf__fail, arguments: {}}}}"
CALLS = """
name: calls
nodes:
  think: {type: llm, config: {model: sim-small, prompt: "[[tool:shelf__add {\\"a\\":1,\\"b\\":2}]]", history: true, tools: [shelf__add], max_tokens: 50}}
  use: {type: tool_calls, config: {}}
edges: [{from: think, to: use}]
output: "= tool_results"
"""


def test_flows_use_the_tools_of_mcp_servers(start):
    with tools() as (port, seen):
        flow = {"mcp": [{"name": "shelf", "url": f"http://127.0.0.1:{port}/mcp"}], "allowed_hosts": [f"127.0.0.1:{port}"]}
        server = start(Server, {"flow": flow})
        wait_until(lambda: server.client.post("/flows", content=ADD).status_code == 201, "the tools", 10)
        for text in (FAIL, CALLS):
            publish(server, text)

        def run(name, **given):
            return server.client.post("/runs/wait", json={"assistant_id": name, "input": given}).json()

        run("adder", a=40)
        rows = server.client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                                                "params": {"name": "adder", "arguments": {"a": 1}}}).json()
        assert rows["result"]["structuredContent"] == {"sum": 3}
        assert "not today" in run("failing")["__error__"]["message"]
        run("calls")
        assert seen == [(40, 2), (1, 2), (1, 2)]


def test_a_private_server_of_tools_is_not_reached_unless_allowed(start):
    with tools() as (port, seen):
        server = start(Server, {"flow": {"mcp": [{"name": "shelf", "url": f"http://127.0.0.1:{port}/mcp"}]}})
        wait_until(lambda: "address_not_allowed" in server.logged() or "no public address" in server.logged(), "the refusal", 10)
        refused = server.client.post("/flows", content=ADD)
        assert refused.status_code == 400 and refused.json()["findings"][0]["code"] == "unknown_tool"
        assert seen == []
