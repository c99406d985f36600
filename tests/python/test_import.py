"""Flows of other systems, taken over and run."""

import json
import pathlib
import subprocess

import pytest
from conftest import BIN

FILES = pathlib.Path(__file__).parent / "imports"


def imported(server, name, **query):
    text = (FILES / name).read_text()
    return server.client.post("/flows/import", params=query, content=text).raise_for_status().json()


def run(server, flow, **given):
    answer = server.client.post("/runs/wait", json={"assistant_id": flow, "input": given}).raise_for_status().json()
    return answer


def test_a_dify_workflow_is_taken_over_and_gives_what_it_gave(server):
    report = imported(server, "support.dify.yml", publish="true")
    assert report["format"] == "dify" and report["flow"]["name"] == "support"
    assert not [finding for finding in report["findings"] if finding["severity"] == "error"]
    noted = {note["at"]: note["message"] for note in report["notes"]}
    assert "secret TOKEN" in noted["environment_variables"] and "hidden" not in json.dumps(report)
    assert "code" in noted["1010"] and "seed" in noted["1003"]
    cases = [
        ({"question": "help me", "urgency": 9}, "urgent help me"),
        ({"question": "help me", "urgency": 2}, "calm: HELP ME!"),
        ({"question": "", "urgency": 9}, "nothing was asked"),
    ]
    for given, answer in cases:
        result = run(server, "support", **given)["result"]
        assert result == {"answer": answer, "list": ["0a", "1b", "2c"]}, given
    [row] = server.client.get("/v1/usage").json()["rows"]
    assert row["model"] == "sim-small"


def test_a_langgraph_graph_is_taken_over_as_far_as_it_says_something(server):
    report = imported(server, "agent.langgraph.json")
    assert report["format"] == "langgraph" and report["flow"] is None
    definition = json.loads(report["definition"])
    assert [definition["nodes"][name]["type"] for name in ("agent", "tools", "review")] == ["llm", "tool_calls", "pass"]
    assert definition["nodes"]["review"]["pause_before"] is True
    conditions = {edge["to"]: edge.get("condition") for edge in definition["edges"] if edge["from"] == "agent"}
    assert conditions["tools"] == "has_tool_calls"
    assert {note["at"] for note in report["notes"]} >= {"agent", "tools", "review"}
    assert not [finding for finding in report["findings"] if finding["severity"] == "error"]


def test_the_command_says_what_it_could_not_take_over(tmp_path):
    done = subprocess.run([BIN, "flow", "import", FILES / "support.dify.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "support" and "1010: a node \"code\"" in done.stderr
    nonsense = tmp_path / "nonsense.yml"
    nonsense.write_text("a: 1")
    done = subprocess.run([BIN, "flow", "import", nonsense], capture_output=True, text=True)
    assert done.returncode != 0 and "neither" in done.stderr


@pytest.mark.parametrize("text", ["", "a: 1", "[]", "workflow: {graph: {nodes: 3}}", "{" * 500, "x" * 100])
def test_nonsense_is_refused(server, text):
    assert server.client.post("/flows/import", content=text).status_code in (200, 422)
