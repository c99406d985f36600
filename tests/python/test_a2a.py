"""Flows as agents: A2A 1.0, driven by the SDK of its authors, whose types are its published schema."""

import asyncio

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.types.a2a_pb2 import (
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskState,
)
from conftest import Server, Simulator, upstream_config
from google.protobuf.json_format import MessageToDict, ParseDict
from test_langgraph import ASK, CHAT, SLOW, publish


def message(text=None, data=None, skill=None, task=None, context=None):
    said = Message(message_id="m1", role=Role.ROLE_USER, task_id=task or "", context_id=context or "")
    if text is not None:
        said.parts.append(Part(text=text))
    if data is not None:
        said.parts.append(ParseDict({"data": data}, Part()))
    if skill:
        ParseDict({"skill": skill}, said.metadata)
    return SendMessageRequest(message=said)


def drive(server, work, key=None, streaming=True):
    """Runs the work with a client of the agent whose card the server has."""

    async def run():
        headers = {"authorization": f"Bearer {key or server.key}"}
        async with httpx.AsyncClient(headers=headers, timeout=30) as http:
            factory = ClientFactory(ClientConfig(httpx_client=http, streaming=streaming))
            client = await factory.create_from_url(server.url)
            return await work(client)

    return asyncio.run(run())


async def told(stream):
    return [event async for event in stream]


def texts(events):
    pieces = [event.artifact_update for event in events if event.HasField("artifact_update")]
    return "".join(part.text for piece in pieces if piece.artifact.artifact_id != "result" for part in piece.artifact.parts)


@pytest.fixture
def flows(server):
    for text in (CHAT, ASK):
        publish(server, text)
    return server


def test_the_card_is_public_and_the_extended_one_names_the_callers_flows(flows):
    card = httpx.get(f"{flows.url}/.well-known/agent-card.json").raise_for_status().json()
    assert card["supportedInterfaces"] == [
        {"url": f"{flows.url}/a2a", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    ]
    extended = drive(flows, lambda client: client.get_extended_agent_card(GetExtendedAgentCardRequest()))
    assert [skill.id for skill in extended.skills] == ["chat", "review"]
    assert httpx.post(f"{flows.url}/a2a", json={}).status_code == 401


def test_a_message_is_streamed_answered_and_remembered(flows):
    async def talk(client):
        first = await told(client.send_message(message("[[say:one two three]]", skill="chat")))
        task = first[0].task
        second = await told(client.send_message(message("[[say:four]]", skill="chat", context=task.context_id)))
        return first, second, await client.get_task(GetTaskRequest(id=second[0].task.id))

    first, second, task = drive(flows, talk)
    assert first[0].HasField("task") and texts(first) == "one two three"
    assert first[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
    assert second[0].task.context_id == first[0].task.context_id and second[0].task.id != first[0].task.id
    assert [said.parts[0].text for said in task.history] == ["[[say:one two three]]", "one two three", "[[say:four]]", "four"]
    assert task.artifacts[0].parts[0].text == "four"


def test_without_streaming_the_answer_is_waited_for(flows):
    async def talk(client):
        [answer] = await told(client.send_message(message("[[say:whole]]", skill="chat")))
        return answer.task

    task = drive(flows, talk, streaming=False)
    assert task.status.state == TaskState.TASK_STATE_COMPLETED and task.artifacts[0].parts[0].text == "whole"


def test_a_task_that_asks_is_answered_and_goes_on_as_the_same_task(flows):
    async def talk(client):
        asked = await told(client.send_message(message(data={}, skill="review")))
        task = asked[0].task
        status = asked[-1].status_update.status
        answered = await told(client.send_message(message(data={"ok": True}, task=task.id)))
        listed = await client.list_tasks(ListTasksRequest(context_id=task.context_id))
        return task, status, answered, listed

    task, status, answered, listed = drive(flows, talk)
    assert status.state == TaskState.TASK_STATE_INPUT_REQUIRED
    assert status.message.parts[0].text == "Is a draft good?"
    assert answered[0].task.id == task.id
    assert answered[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
    result = [event.artifact_update.artifact for event in answered if event.HasField("artifact_update")][-1]
    assert MessageToDict(result.parts[-1])["data"]["verdict"] == {"ok": True}
    assert [one.id for one in listed.tasks] == [task.id] and listed.total_size == 1


def test_a_task_is_cancelled_and_can_be_subscribed_to(start):
    upstream = start(Simulator, "--interval-ms", "20")
    server = start(Server, upstream_config(upstream.url))
    publish(server, SLOW)

    async def talk(client):
        stream = client.send_message(message(data={}))
        task = (await anext(stream)).task
        subscribed = client.subscribe(SubscribeToTaskRequest(id=task.id))
        first = await anext(subscribed)
        piece = await anext(subscribed)
        cancelled = await client.cancel_task(CancelTaskRequest(id=task.id))
        rest = await told(subscribed)
        return task, first, piece, cancelled, rest

    task, first, piece, cancelled, rest = drive(server, talk)
    assert first.task.id == task.id and piece.HasField("artifact_update")
    assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
    assert rest[-1].status_update.status.state == TaskState.TASK_STATE_CANCELED
    [row] = server.usage()
    assert row["client_gone"] and 0 < row["output_tokens"] < 2000


def call(server, method, params, key=None, **headers):
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    own = {"authorization": f"Bearer {key or server.key}", **headers}
    answer = httpx.post(f"{server.url}/a2a", json=body, headers=own)
    assert answer.status_code == 200
    return answer.json()


def test_mistakes_have_the_codes_of_the_specification(flows):
    said = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}], "metadata": {"skill": "chat"}}
    done = call(flows, "SendMessage", {"message": said})["result"]["task"]["id"]
    _, other = flows.customer("5")
    push = {"message": said, "configuration": {"taskPushNotificationConfig": {"url": "http://127.0.0.1"}}}
    file = {**said, "parts": [{"url": "http://127.0.0.1/x"}]}
    for code, method, params, key, headers in [
        (-32601, "Nothing", {}, None, {}),
        (-32602, "SendMessage", {}, None, {}),
        (-32602, "SendMessage", {"message": {**said, "metadata": {}}}, None, {}),
        (-32602, "SendMessage", {"message": {**said, "metadata": {"skill": "nobody"}}}, None, {}),
        (-32005, "SendMessage", {"message": file}, None, {}),
        (-32003, "SendMessage", push, None, {}),
        (-32003, "CreateTaskPushNotificationConfig", {}, None, {}),
        (-32001, "GetTask", {"id": "nothing"}, None, {}),
        (-32001, "GetTask", {"id": done}, other, {}),
        (-32001, "CancelTask", {"id": done}, other, {}),
        (-32001, "SubscribeToTask", {"id": done}, other, {}),
        (-32002, "CancelTask", {"id": done}, None, {}),
        (-32004, "SendMessage", {"message": {**said, "taskId": done}}, None, {}),
        (-32004, "SubscribeToTask", {"id": done}, None, {}),
        (-32009, "GetTask", {"id": done}, None, {"a2a-version": "0.3"}),
    ]:
        assert call(flows, method, params, key, **headers)["error"]["code"] == code, (method, params)
    assert call(flows, "GetTask", {"id": done})["result"]["status"]["state"] == "TASK_STATE_COMPLETED"
