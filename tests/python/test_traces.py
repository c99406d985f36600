"""Traces: a small collector takes what the server sends."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from conftest import Server, Simulator, upstream_config


def fields(data):
    """A Protocol Buffers message as (field number, value) pairs."""
    def number(at):
        value = shift = 0
        while True:
            byte = data[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at

    at = 0
    while at < len(data):
        key, at = number(at)
        kind = key & 7
        if kind == 0:
            value, at = number(at)
        elif kind == 2:
            length, at = number(at)
            value, at = data[at:at + length], at + length
        else:
            length = {1: 8, 5: 4}[kind]
            value, at = data[at:at + length], at + length
        yield key >> 3, value


def one(data, field, otherwise=b""):
    return next((value for number, value in fields(data) if number == field), otherwise)


def attribute_value(data):
    [(kind, value)] = list(fields(data))
    return value.decode() if kind == 1 else value


def spans(body):
    """The spans of an export request, as dictionaries (opentelemetry/proto/trace/v1)."""
    for _, resource_spans in fields(body):
        for number, scope_spans in fields(resource_spans):
            if number != 2:
                continue
            for number, span in fields(scope_spans):
                if number != 2:
                    continue
                yield {
                    "trace_id": one(span, 1).hex(), "span_id": one(span, 2).hex(), "parent": one(span, 4).hex(),
                    "name": one(span, 5).decode(), "kind": one(span, 6),
                    "events": [one(value, 2).decode() for number, value in fields(span) if number == 11],
                    **{one(value, 1).decode(): attribute_value(one(value, 2))
                       for number, value in fields(span) if number == 9},
                }


class Server4318:
    """Takes any POST, and keeps it; as a collector, and as an upstream that tells what it was sent."""

    def __init__(self):
        kept = self.kept = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                kept.append((self.path, dict(self.headers), body))
                self.send_response(200)
                self.send_header("content-type", "application/json")
                answer = b'{"choices":[{"message":{"role":"assistant","content":"an answer"}}],' \
                         b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self):
        return [span for path, _, body in self.kept if path == "/v1/traces" for span in spans(body)]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def traced(start, upstream, **telemetry):
    collector = start(Server4318)
    settings = {"otlp_endpoint": collector.url, "otlp_headers": {"x-tenant": "t1"}, **telemetry}
    return start(Server, {**upstream_config(upstream.url), "telemetry": settings}), collector


def test_a_call_is_a_span_of_the_callers_trace_and_the_upstreams_parent(start):
    upstream = start(Server4318)
    server, collector = traced(start, upstream)
    answer = server.chat("a secret prompt", model="up", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert answer.status_code == 200
    server.stop()
    [span] = collector.spans()
    assert (span["trace_id"], span["parent"], span["name"], span["kind"]) == (TRACE, PARENT, "chat up", 3)
    assert span["gen_ai.operation.name"] == "chat" and span["gen_ai.request.model"] == "up"
    assert span["gen_ai.response.model"] == "sim-small" and span["gen_ai.provider.name"] == "up"
    assert (span["gen_ai.usage.input_tokens"], span["gen_ai.usage.output_tokens"]) == (3, 2)
    assert span["ledgerline.charge_id"] == answer.headers["x-ledgerline-charge-id"]
    assert span["ledgerline.cost"] == answer.headers["x-ledgerline-cost"]
    sent = {name.lower(): value for name, value in upstream.kept[0][1].items()}
    assert sent["traceparent"] == f"00-{TRACE}-{span['span_id']}-01"
    path, headers, body = collector.kept[0]
    assert path == "/v1/traces" and {k.lower(): v for k, v in headers.items()}["x-tenant"] == "t1"
    assert b"a secret prompt" not in body and b"an answer" not in body and server.key.encode() not in body


def test_content_is_recorded_if_asked_for(start):
    server, collector = traced(start, start(Server4318), record_content=True)
    server.chat("remember me", model="up")
    server.stop()
    [span] = collector.spans()
    assert "remember me" in span["gen_ai.input.messages"] and "an answer" in span["gen_ai.output.messages"]


def test_streams_failures_and_refusals_are_told(start):
    server, collector = traced(start, start(Simulator))
    server.chat(model="up", stream=True).raise_for_status()
    server.chat("[[fail:500]]", model="up")
    _, key = server.customer()
    assert server.chat(model="up", key=key).status_code == 402
    server.stop()
    stream, failed, refused = collector.spans()
    assert stream["events"] == ["first_token"] and "error.type" not in stream
    assert failed["error.type"] == "upstream_error" and failed["http.response.status_code"] == 500
    assert refused["error.type"] == "insufficient_balance"


def test_a_collector_that_is_gone_delays_nobody(start):
    server = start(Server, {**upstream_config(start(Simulator).url), "telemetry": {"otlp_endpoint": "http://127.0.0.1:9"}})
    for _ in range(20):
        server.chat(model="up").raise_for_status()
    assert server.stop() == 0


def test_a_callers_trace_is_not_sent_on_when_nothing_is_traced(start):
    upstream = start(Server4318)
    server = start(Server, upstream_config(upstream.url))
    server.chat(model="up", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}).raise_for_status()
    assert "traceparent" not in {name.lower() for name in upstream.kept[0][1]}


def test_an_address_that_is_none_is_refused_at_the_start(tmp_path):
    try:
        Server(tmp_path, {"telemetry": {"otlp_endpoint": "collector:4318"}}).start()
    except AssertionError as error:
        assert "telemetry.otlp_endpoint" in str(error)
    else:
        raise AssertionError("it started")
