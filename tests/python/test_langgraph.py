"""Threads and runs, driven by LangGraph's SDK as it is published."""

import asyncio
import json
import threading

import httpx
import langgraph_sdk
import pytest
from conftest import Server, Simulator, upstream_config, wait_until
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

CHAT = """
name: chat
description: Answers.
nodes:
  answer: {type: llm, config: {model: sim-small, max_tokens: 50}}
"""

ASK = """
name: review
description: Writes, asks, goes on.
state: {draft: str, count: {type: int, reducer: add, default: 0}}
nodes:
  write: {type: llm, config: {model: sim-small, prompt: "[[say:a draft]]", max_tokens: 20, output: draft}}
  ask:
    type: wait
    config:
      message: "Is {{ draft }} good?"
      schema: {type: object, required: [ok], properties: {ok: {type: boolean}}}
      output: verdict
  done: {type: transform, config: {set: {count: 1}}}
edges: [{from: write, to: ask}, {from: ask, to: done}]
"""

SLOW = """
name: slow
description: Streams for long.
nodes:
  talk: {type: llm, config: {model: up, prompt: "[[words:2000]]", max_tokens: 4000, output: text}}
"""


def publish(server, text):
    return server.client.post("/flows", content=text).raise_for_status().json()


def sdk(server, key=None):
    return langgraph_sdk.get_sync_client(url=server.url, api_key=key or server.key)


@pytest.fixture
def client(server):
    for text in (CHAT, ASK):
        publish(server, text)
    return sdk(server)


def human(text):
    return {"messages": [{"role": "user", "content": text}]}


def test_a_thread_is_a_conversation_streamed_in_every_mode(server, client):
    thread = client.threads.create(metadata={"who": "ada"})
    assert (thread["status"], thread["metadata"]) == ("idle", {"who": "ada"})
    modes = ["values", "updates", "messages-tuple", "events"]
    parts = list(client.runs.stream(thread["thread_id"], "chat", input=human("[[say:one two three]]"), stream_mode=modes))
    assert parts[0].event == "metadata" and parts[-1].event == "end"
    run_id = parts[0].data["run_id"]
    said = [part.data for part in parts if part.event == "messages"]
    assert "".join(chunk["content"] for chunk, _ in said) == "one two three"
    assert {about["langgraph_node"] for _, about in said} == {"answer"}
    updates = [part.data for part in parts if part.event == "updates"]
    assert [list(update) for update in updates] == [["answer"]]
    values = [part.data for part in parts if part.event == "values"]
    assert [message["type"] for message in values[-1]["messages"]] == ["human", "ai"]
    events = [part.data["event"] for part in parts if part.event == "events"]
    assert events[0] == "on_chain_start" and events[-1] == "on_chain_end"
    assert "on_chat_model_stream" in events

    again = client.runs.wait(thread["thread_id"], "chat", input=human("[[say:four]]"))
    texts = [message["content"] for message in again["messages"]]
    assert texts == ["[[say:one two three]]", "one two three", "[[say:four]]", "four"]
    state = client.threads.get_state(thread["thread_id"])
    assert state["values"] == again and state["next"] == []
    runs = client.runs.list(thread["thread_id"])
    assert [run["status"] for run in runs] == ["success", "success"] and runs[1]["run_id"] == run_id
    # What the runs have cost is in the usage records, by their engine's runs.
    rows = server.client.get("/v1/usage").json()["rows"]
    assert len(rows) == 2 and all(row["run_id"] and row["step"] == 1 for row in rows)

    parts = client.runs.stream(thread["thread_id"], "chat", input=human("[[say:x y]]"), stream_mode="messages")
    partial = [part.data[0]["content"] for part in parts if part.event == "messages/partial"]
    assert partial[-1] == "x y" and partial[0] in ("x ", "x y")


def test_a_question_interrupts_and_is_answered_once(server, client):
    thread_id = client.threads.create()["thread_id"]
    parts = list(client.runs.stream(thread_id, "review", input={}, stream_mode=["updates", "values"]))
    asked = [part.data["__interrupt__"] for part in parts if part.event == "updates" and "__interrupt__" in part.data]
    [[question]] = asked
    assert question["value"]["message"] == "Is a draft good?"
    assert question["response_schema"]["required"] == ["ok"]
    thread = client.threads.get(thread_id)
    assert thread["status"] == "interrupted" and list(thread["interrupts"].values()) == [[question]]
    state = client.threads.get_state(thread_id)
    assert state["next"] == ["ask"] and state["interrupts"] == [question]
    assert state["values"]["draft"] == "a draft"
    assert client.runs.list(thread_id)[0]["status"] == "interrupted"
    assert client.threads.search(status="interrupted")[0]["thread_id"] == thread_id

    with pytest.raises(httpx.HTTPStatusError) as refused:
        client.runs.create(thread_id, "review", command={"resume": {"ok": "maybe"}})
    assert refused.value.response.json()["code"] == "answer_mismatch"
    resumed = list(
        client.runs.stream(thread_id, "review", command={"resume": {question["id"]: {"ok": True}}}, stream_mode="updates")
    )
    # The part before the question is not told again.
    assert [list(part.data) for part in resumed if part.event == "updates"] == [["ask"], ["done"]]
    with pytest.raises(ConflictError) as refused:
        client.runs.create(thread_id, "review", command={"resume": {"ok": True}})
    assert refused.value.code == "not_waiting"
    values = client.threads.get_state(thread_id)["values"]
    assert (values["verdict"], values["count"]) == ({"ok": True}, 1)
    assert [run["status"] for run in client.runs.list(thread_id)] == ["success", "interrupted"]

    history = client.threads.get_history(thread_id, limit=100)
    assert history[0]["values"] == values
    assert [state["checkpoint"]["checkpoint_id"] for state in history[1:]] == [
        state["parent_checkpoint"]["checkpoint_id"] for state in history[:-1]
    ]
    older = client.threads.get_history(thread_id, before=history[2]["checkpoint"], limit=100)
    assert older == history[3:]
    middle = history[2]["checkpoint"]["checkpoint_id"]
    assert client.threads.get_state(thread_id, checkpoint_id=middle)["values"] == history[2]["values"]
    # Fields that add up go on from run to run.
    client.runs.wait(thread_id, "review", input={})
    again = client.runs.wait(thread_id, "review", command={"resume": {"ok": False}})
    assert again["count"] == 2


def test_two_answers_at_once_are_one(server, client):
    thread_id = client.threads.create()["thread_id"]
    client.runs.wait(thread_id, "review", input={})
    outcomes = []

    def answer(ok):
        try:
            outcomes.append(sdk(server).runs.wait(thread_id, "review", command={"resume": {"ok": ok}})["verdict"]["ok"])
        except httpx.HTTPStatusError as error:
            outcomes.append(error.response.json()["code"])

    threads = [threading.Thread(target=answer, args=(at % 2 == 0,)) for at in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    won = [outcome for outcome in outcomes if isinstance(outcome, bool)]
    assert len(won) == 1 and set(outcomes) - set(won) <= {"thread_busy", "not_waiting", "already_answered"}


@pytest.fixture
def slow(start):
    upstream = start(Simulator, "--interval-ms", "20")
    server = start(Server, upstream_config(upstream.url))
    publish(server, SLOW)
    return server


def test_a_run_is_cancelled_in_the_middle_and_costs_what_came(slow):
    client = sdk(slow)
    thread_id = client.threads.create()["thread_id"]
    before = float(slow.wallet()["available"])
    parts = client.runs.stream(thread_id, "slow", input={}, stream_mode="messages-tuple")
    run_id = next(parts).data["run_id"]
    for _ in range(3):
        assert next(parts).event == "messages"
    with pytest.raises(ConflictError) as busy:
        client.runs.create(thread_id, "slow", input={})
    assert busy.value.code == "thread_busy"
    client.runs.cancel(thread_id, run_id, wait=True)
    assert list(parts)[-1].event == "end"
    assert client.runs.get(thread_id, run_id)["status"] == "interrupted"
    assert client.threads.get(thread_id)["status"] == "idle"
    [row] = slow.usage()
    assert row["client_gone"] and row["status"] == "settled" and 0 < row["output_tokens"] < 2000
    assert before - float(slow.wallet()["available"]) == pytest.approx(float(row["cost"]))

    running = client.runs.create(thread_id, "slow", input={})
    other = client.runs.create(thread_id, "slow", input={}, multitask_strategy="interrupt")
    assert client.runs.get(thread_id, running["run_id"])["status"] == "interrupted"
    client.runs.cancel(thread_id, other["run_id"], wait=True, action="rollback")
    with pytest.raises(NotFoundError):
        client.runs.get(thread_id, other["run_id"])
    left = client.runs.create(thread_id, "slow", input={})
    stream = client.runs.join_stream(thread_id, left["run_id"], stream_mode="messages-tuple", cancel_on_disconnect=True)
    next(stream)
    stream.close()
    wait_until(lambda: client.runs.get(thread_id, left["run_id"])["status"] == "interrupted", "the cancel", 10)


def events_of(server, path, last=None):
    headers = {"last-event-id": last} if last else {}
    events = []
    with server.client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        current = {}
        for line in answer.iter_lines():
            if not line:
                if current:
                    events.append(current)
                current = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                current[name] = value
    return events


def test_a_stream_cut_anywhere_goes_on_where_it_was_cut(server, client):
    thread_id = client.threads.create()["thread_id"]
    run = client.runs.create(thread_id, "review", input={})
    path = f"/threads/{thread_id}/runs/{run['run_id']}/stream?stream_mode=values&stream_mode=updates&stream_mode=events"
    path += "&stream_mode=messages-tuple"
    client.runs.join(thread_id, run["run_id"])
    whole = events_of(server, path)
    assert len(whole) > 8 and len({event["id"] for event in whole}) == len(whole)
    for at, event in enumerate(whole[:-1]):
        assert events_of(server, path, event["id"]) == whole[at + 1 :], event
    assert server.client.get(path, headers={"last-event-id": "nonsense"}).status_code == 422


def test_runs_without_a_thread_and_failures_are_told(server, client):
    answer = client.runs.wait(None, "chat", input=human("[[say:hi]]"))
    assert answer["messages"][-1]["content"] == "hi"
    parts = list(client.runs.stream(None, "chat", input=human("[[fail:400]]")))
    assert [part.event for part in parts][-2:] == ["error", "end"]
    with pytest.raises(Exception, match="upstream_refused"):
        client.runs.wait(None, "chat", input=human("[[fail:400]]"))
    batch = client.runs.create_batch([{"assistant_id": "chat", "input": human(str(at))} for at in range(3)])
    assert len({run["thread_id"] for run in batch}) == 3
    for run in batch:
        assert "messages" in client.runs.join(run["thread_id"], run["run_id"])
    assert client.threads.search() == []
    with pytest.raises(NotFoundError):
        client.runs.create(None, "nobody", input={})
    for unsupported in ({"webhook": "http://127.0.0.1/"}, {"interrupt_before": ["answer"]}, {"after_seconds": 5},
                        {"checkpoint_id": "x"}, {"command": {"goto": "answer"}}, {"stream_mode": ["debug"]}):
        thread_id = client.threads.create()["thread_id"]
        with pytest.raises(UnprocessableEntityError):
            client.runs.create(thread_id, "chat", **unsupported)


def test_assistants_are_the_published_flows(server, client):
    found = client.assistants.search()
    assert [assistant["name"] for assistant in found] == ["chat", "review"]
    chat = client.assistants.get(found[0]["assistant_id"])
    assert chat == client.assistants.get("chat") and client.assistants.count() == 2
    graph = client.assistants.get_graph("review")
    assert [node["id"] for node in graph["nodes"]] == ["__start__", "write", "ask", "done", "__end__"]
    schema = client.assistants.get_schemas("review")["input_schema"]
    assert {"draft", "count"} <= set(schema["properties"])
    assert client.assistants.create("chat", if_exists="do_nothing") == chat
    answer = client.runs.wait(None, chat["assistant_id"], input=human("[[say:by id]]"))
    assert answer["messages"][-1]["content"] == "by id"
    newer = publish(server, CHAT.replace("Answers.", "Answers better."))
    assert server.client.get("/flows/chat").json()["id"] == newer["id"]
    assert [row["name"] for row in server.client.get("/flows").json()["rows"]] == ["chat", "review"]
    broken = server.client.post("/flows", content="name: x\nnodes: {a: {type: nonsense}}")
    assert broken.status_code == 400 and broken.json()["findings"]


def test_threads_are_changed_copied_searched_and_deleted(server, client):
    thread_id = client.threads.create(thread_id="my-thread", metadata={"a": 1})["thread_id"]
    with pytest.raises(ConflictError):
        client.threads.create(thread_id="my-thread")
    assert client.threads.create(thread_id="my-thread", if_exists="do_nothing")["metadata"] == {"a": 1}
    client.threads.update(thread_id, metadata={"b": 2})
    assert client.threads.search(metadata={"a": 1, "b": 2})[0]["thread_id"] == thread_id
    assert client.threads.search(metadata={"b": 3}) == [] and client.threads.count() == 1
    client.threads.update_state(thread_id, {"messages": [{"type": "human", "content": "before"}]})
    copy = client.threads.copy(thread_id)
    answer = client.runs.wait(copy["thread_id"], "chat", input=human("[[say:after]]"))
    assert [message["content"] for message in answer["messages"]] == ["before", "[[say:after]]", "after"]
    assert len(client.threads.get_state(thread_id)["values"]["messages"]) == 1
    client.threads.delete(thread_id)
    with pytest.raises(NotFoundError):
        client.threads.get(thread_id)


def test_what_is_anothers_is_not_there(server, client):
    thread_id = client.threads.create()["thread_id"]
    run_id = client.runs.create(thread_id, "review", input={})["run_id"]
    client.runs.join(thread_id, run_id)
    _, key = server.customer("5")
    other = sdk(server, key)
    assert other.assistants.search() == [] and other.threads.search() == []
    for attempt in (
        lambda: other.threads.get(thread_id),
        lambda: other.threads.get_state(thread_id),
        lambda: other.threads.get_history(thread_id),
        lambda: other.threads.copy(thread_id),
        lambda: other.threads.delete(thread_id),
        lambda: other.runs.list(thread_id),
        lambda: other.runs.get(thread_id, run_id),
        lambda: other.runs.join(thread_id, run_id),
        lambda: other.runs.cancel(thread_id, run_id),
        lambda: list(other.runs.join_stream(thread_id, run_id)),
        lambda: other.runs.wait(thread_id, "review", command={"resume": {"ok": True}}),
        lambda: other.runs.wait(None, "review", input={}),
    ):
        with pytest.raises(httpx.HTTPStatusError) as refused:
            attempt()
        assert refused.value.response.status_code == 404
    assert httpx.get(f"{server.url}/threads/{thread_id}").status_code == 401
    assert httpx.get(f"{server.url}/ok").json() == {"ok": True}


def test_the_asynchronous_client_works_too(server, client):
    async def talk():
        asynchronous = langgraph_sdk.get_client(url=server.url, api_key=server.key)
        thread = await asynchronous.threads.create()
        stream = asynchronous.runs.stream(thread["thread_id"], "chat", input=human("[[say:hello there]]"), stream_mode="updates")
        return [part async for part in stream]

    parts = asyncio.run(talk())
    assert [part.event for part in parts] == ["metadata", "updates", "end"]
    assert json.dumps(parts[1].data).count("hello there") == 1
