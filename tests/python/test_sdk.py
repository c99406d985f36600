"""The official OpenAI SDK, changed in nothing but its base URL."""

import decimal
import json

import openai
import pytest


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)


def ask(text):
    return [{"role": "user", "content": text}]


def test_a_conversation_is_answered_and_charged(server, client):
    before = decimal.Decimal(server.wallet()["available"])
    raw = client.chat.completions.with_raw_response.create(model="sim-small", messages=ask("hello there"))
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 24)
    cost = decimal.Decimal(raw.headers["x-ledgerline-cost"])
    assert cost == decimal.Decimal("0.000098")
    assert decimal.Decimal(server.wallet()["available"]) == before - cost
    assert decimal.Decimal(raw.headers["x-ledgerline-balance"]) == before - cost
    record = server.client.get(f"/v1/usage/{raw.headers['x-ledgerline-charge-id']}").json()
    assert (record["status"], record["cost"], record["model"]) == ("settled", "0.000098", "sim-small")
    assert (record["input_tokens"], record["output_tokens"]) == (2, 24)
    follow_up = [*ask("hello there"), {"role": "assistant", "content": answer.choices[0].message.content}, *ask("more")]
    assert client.chat.completions.create(model="sim-small", messages=follow_up).choices[0].message.content


def test_streams_arrive_whole_with_and_without_usage(server, client):
    whole = client.chat.completions.create(model="sim-small", messages=ask("stream it")).choices[0].message.content
    plain = list(client.chat.completions.create(model="sim-small", messages=ask("stream it"), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in plain) == whole
    assert all(chunk.usage is None for chunk in plain)
    counted = list(
        client.chat.completions.create(
            model="sim-small", messages=ask("stream it"), stream=True, stream_options={"include_usage": True}
        )
    )
    assert counted[-1].usage.completion_tokens == 24 and counted[-1].choices == []
    costs = {row["cost"] for row in server.usage(server.org)}
    assert len(costs) == 1, "the same answer costs the same, however it is sent"


def test_tools_are_called_and_their_results_used(client):
    tools = [{
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }]
    answer = client.chat.completions.create(model="sim-large", messages=ask("weather?"), tools=tools)
    call = answer.choices[0].message.tool_calls[0]
    assert (answer.choices[0].finish_reason, call.function.name) == ("tool_calls", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "sim"}
    conversation = [
        *ask("weather?"),
        answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    final = client.chat.completions.create(model="sim-large", messages=conversation, tools=tools)
    assert "sunny" in final.choices[0].message.content
    streamed = client.chat.completions.create(model="sim-large", messages=ask("weather?"), tools=tools, stream=True)
    parts = [call for chunk in streamed for call in (chunk.choices[0].delta.tool_calls or [])]
    assert parts[0].function.name == "get_weather"
    assert "".join(part.function.arguments for part in parts) == '{"city":"sim"}'


def test_json_mode_images_and_several_choices(client):
    answer = client.chat.completions.create(
        model="sim-small", messages=ask("json please"), response_format={"type": "json_object"}
    )
    assert "answer" in json.loads(answer.choices[0].message.content)
    image = [{"role": "user", "content": [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
    ]}]
    assert client.chat.completions.create(model="sim-small", messages=image).usage.prompt_tokens == 3
    two = client.chat.completions.create(model="sim-small", messages=ask("twice"), n=2, max_tokens=5)
    assert [choice.finish_reason for choice in two.choices] == ["length", "length"]
    assert two.usage.completion_tokens == 10


def test_embeddings_and_models(server, client):
    answer = client.embeddings.create(model="sim-embed", input=["one text", "another"])
    assert [len(item.embedding) for item in answer.data] == [64, 64]
    assert abs(sum(value * value for value in answer.data[0].embedding) - 1) < 1e-5
    assert answer.usage.prompt_tokens == 3
    assert server.usage(server.org)[0]["cost"] == "0.0000015"
    names = [model.id for model in client.models.list()]
    assert names == ["sim-small", "sim-large", "sim-embed"]
    assert client.models.retrieve("sim-small").id == "sim-small"


def test_every_error_class(server, client):
    def create(**more):
        return client.chat.completions.create(**{"model": "sim-small", "messages": ask("x"), **more})

    with pytest.raises(openai.NotFoundError) as unknown:
        create(model="nobody")
    assert unknown.value.code == "model_not_found" and unknown.value.param == "model"
    with pytest.raises(openai.BadRequestError) as bad:
        create(messages=[])
    assert bad.value.code == "invalid_field" and bad.value.param == "messages"
    with pytest.raises(openai.AuthenticationError) as stranger:
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="llk_wrong", max_retries=0).models.list()
    assert stranger.value.code == "invalid_api_key"
    with pytest.raises(openai.RateLimitError) as limited:
        create(messages=ask("[[fail:429]]"))
    assert limited.value.code == "upstream_rate_limited" and limited.value.response.headers["retry-after"] == "1"
    with pytest.raises(openai.InternalServerError) as broken:
        create(messages=ask("[[fail:500]]"))
    assert broken.value.status_code == 502 and broken.value.code == "upstream_error"
    with pytest.raises(openai.BadRequestError) as refused:
        create(messages=ask("[[fail:400]]"))
    assert refused.value.code == "upstream_invalid_request"
    org, key = server.customer("0.000001")
    poor = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
    with pytest.raises(openai.APIStatusError) as empty:
        poor.chat.completions.create(model="sim-small", messages=ask("x"))
    assert empty.value.status_code == 402 and empty.value.code == "insufficient_balance"
    assert empty.value.body["available"] == "0.000001" and empty.value.body["currency"] == "CNY"
    assert server.wallet(org)["posted"] == "0.000001"
    assert {row["cost"] for row in server.usage(server.org)} == {"0"}, "failed calls cost nothing"


def test_a_repeated_request_is_charged_once(server, client):
    def create(text, **more):
        return client.chat.completions.with_raw_response.create(
            model="sim-small", messages=ask(text), extra_headers={"idempotency-key": "order-17"}, **more
        )

    first, second = create("once"), create("once")
    assert first.text == second.text
    assert first.headers["x-ledgerline-charge-id"] == second.headers["x-ledgerline-charge-id"]
    assert second.headers["idempotency-replayed"] == "true"
    assert len(server.usage(server.org)) == 1
    with pytest.raises(openai.ConflictError) as other:
        create("something else")
    assert other.value.code == "idempotency_conflict"
    retrying = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=2)
    with pytest.raises(openai.InternalServerError):
        retrying.chat.completions.create(
            model="sim-small", messages=ask("[[fail:503]]"), extra_headers={"idempotency-key": "retried"}
        )
    released = [row for row in server.usage(server.org) if row["status"] == "released"]
    assert len(released) == 3, "an attempt that cost nothing does not use the key up"
