"""The Model Context Protocol, spoken by its own client: on standard input and output, and at /mcp."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smol.units.gateway.keys import KeyFile, keys_path

mcp = pytest.importorskip("mcp")

WIRES = ["legacy", "2026-07-28"]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
def url(start: Any) -> Iterator[str]:
    with start() as client:
        yield client.gateway.address()["url"] + "/mcp"


async def use(client: Any) -> None:
    """What any wire must do."""
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(tools) == sorted(tools)
    assert "math_evaluate" in tools
    assert tools["math_evaluate"].annotations.read_only_hint
    assert tools["math_evaluate"].output_schema["type"] == "object"
    assert not {"storage_put", "lifecycle_add", "lifecycle_stop", "storage_watch"} & set(tools)
    answer = await client.call_tool("math_evaluate", {"expression": "6*7"})
    assert answer.structured_content["exact"] == "42"
    assert json.loads(answer.content[0].text) == answer.structured_content
    units = await client.call_tool("lifecycle_units", {})
    assert {"math", "gateway"} <= {unit["name"] for unit in units.structured_content["result"]}
    for name, arguments, reason in (
        ("math_evaluate", {"expresion": "1"}, "did you mean 'expression'"),
        ("classify_image", {"image": "/etc/passwd"}, "data: URI"),
    ):
        wrong = await client.call_tool(name, arguments)
        assert wrong.is_error
        assert reason in wrong.content[0].text
    for name, reason in (("math_evalute", "did you mean 'math_evaluate'"), ("storage_put", "no tool")):
        with pytest.raises(mcp.MCPError, match=reason):
            await client.call_tool(name, {})
    with pytest.raises(mcp.MCPError, match="no resource") as caught:
        await client.read_resource("smol://models/nobody")
    assert (caught.value.code, caught.value.data) == (-32602, {"uri": "smol://models/nobody"})
    seen = await client.call_tool("classify_image", {"image": f"data:image/png;base64,{PNG}", "top": 1})
    assert len(seen.structured_content["classes"]) == 1
    resources = [str(resource.uri) for resource in (await client.list_resources()).resources]
    assert "smol://models/classify" in resources
    read = await client.read_resource("smol://models/classify")
    assert "smol-classify" in read.contents[0].text


@pytest.mark.parametrize("wire", WIRES)
def test_tools_over_http(url: str, wire: str) -> None:
    async def talk() -> None:
        async with mcp.Client(url, mode=wire) as client:
            await use(client)

    asyncio.run(talk())


@pytest.mark.parametrize("wire", WIRES)
def test_tools_over_standard_input_and_output(tmp_path: Path, wire: str) -> None:
    async def talk() -> None:
        environ = {**os.environ, "SMOL_HOME": str(tmp_path), "SMOL_GATEWAY_LISTEN": "127.0.0.1:0"}
        command = mcp.StdioServerParameters(
            command=sys.executable, args=["-m", "smol.cli.main", "mcp"], env=environ
        )
        async with mcp.Client(command, mode=wire) as client:
            await use(client)

    asyncio.run(talk())


def test_what_is_allowed_by_the_settings_is_a_tool(start: Any, tmp_path: Path) -> None:
    table = tmp_path / "smol.toml"
    table.write_text('[units.mcp]\nallow = ["storage.put"]\ndeny = ["lifecycle.*"]\n')

    async def talk(url: str) -> None:
        async with mcp.Client(url) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert "storage_put" in names
            assert "lifecycle_units" not in names
            assert not (await client.call_tool("storage_put", {"key": "a", "value": 1})).is_error

    with start(SMOL_CONFIG=str(table)) as client:
        asyncio.run(talk(client.gateway.address()["url"] + "/mcp"))


def test_a_key_covers_its_tools_only(start: Any, tmp_path: Path) -> None:
    import httpx2

    secret = KeyFile(keys_path(tmp_path / "home" / "data")).create("agent", ["math.*"])

    async def talk(url: str) -> None:
        # A header of the client's own must not widen what its key covers.
        headers = {"authorization": f"Bearer {secret}", "x-smol-allow": '["*"]'}
        async with httpx2.AsyncClient(headers=headers) as http:
            transport = mcp.client.streamable_http.streamable_http_client(url, http_client=http)
            async with mcp.Client(transport) as client:
                assert [tool.name for tool in (await client.list_tools()).tools] == ["math_evaluate"]
                with pytest.raises(mcp.MCPError, match="no tool"):
                    await client.call_tool("lifecycle_units", {})

    with start() as client:
        asyncio.run(talk(client.gateway.address()["url"] + "/mcp"))


@pytest.mark.parametrize(
    ("client", "key"), [("claude", "mcpServers"), ("cursor", "mcpServers"), ("vscode", "servers")]
)
def test_the_settings_for_a_client_are_printed(client: str, key: str) -> None:
    command = [sys.executable, "-m", "smol.cli.main", "mcp", "--config", client]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "mcp" in json.loads(run.stdout)[key]["smol"]["args"]
