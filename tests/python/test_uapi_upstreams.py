"""Upstreams described by templates, as in the example: each way to answer, and what goes wrong."""

import decimal
import json
import pathlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import Server, wait_until

D = decimal.Decimal
EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "uapi-upstreams" / "ledgerline.yaml"


class Upstream:
    """An upstream with an API of its own. `mood` makes it misbehave."""

    def __init__(self):
        self.mood, self.asked, self.tasks = "fine", [], {}
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length) or b"null")
                upstream.asked.append((self.path, dict(self.headers), body))
                if upstream.mood == "refuse":
                    return self.answer({"error": "no"}, 500)
                if upstream.mood == "redirect":
                    return self.answer({}, 302, location="http://169.254.169.254/")
                if upstream.mood == "huge":
                    return self.answer({"answer": "x" * 300_000})
                if upstream.mood == "rubbish":
                    return self.raw(b"<html>")
                if self.path.startswith("/v2/models/"):
                    return self.lines()
                if self.path.startswith("/answer"):
                    said = f"you asked: {body['question']}"
                    return self.answer({"answer": said, "counted": {"asked": 10, "answered": 5}})
                number = str(len(upstream.tasks) + 1)
                upstream.tasks[number] = 0
                return self.answer({"id": number})

            def do_GET(self):
                number = self.path.rpartition("/")[2]
                upstream.tasks[number] += 1
                if upstream.mood == "failing":
                    return self.answer({"state": "FAILED", "reason": "no room"})
                if upstream.mood == "endless" or upstream.tasks[number] < 3:
                    return self.answer({"state": "RUNNING"})
                counted = {"asked": 7, "answered": 3}
                return self.answer({"state": "SUCCEEDED", "output": "made", "counted": counted})

            def lines(self):
                parts = [{"text": "Hel"}, {"text": 'lo "you"\n'}, {"text": "", "last": True, "tokens": {"in": 10, "out": 4}}]
                if upstream.mood == "cut":
                    parts = parts[:1]
                if upstream.mood == "long line":
                    parts = [{"text": "x" * (2 << 20)}]
                text = ": a comment\n\n" + "".join(f"data: {json.dumps(part)}\n\n" for part in parts)
                self.raw(text.encode() + (b"" if upstream.mood == "cut" else b"data: [DONE]\n\n"), "text/event-stream")

            def answer(self, body, status=200, **headers):
                self.raw(json.dumps(body).encode(), "application/json", status, **headers)

            def raw(self, body, kind="application/json", status=200, **headers):
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()


def start_example(tmp_path, upstream, private="true", edit=lambda text: text):
    file = tmp_path / "example.yaml"
    file.write_text(edit(EXAMPLE.read_text()))
    folder = tmp_path / "server"
    folder.mkdir()
    environment = {"UPSTREAM": upstream, "PRIVATE": private, "LINES_KEY": "sesame"}
    return Server(folder, arguments=["--config", str(file)], environment=environment).start()


@pytest.fixture
def upstream(start):
    return start(Upstream)


@pytest.fixture
def server(tmp_path, upstream):
    running = start_example(tmp_path, upstream.url)
    yield running
    running.stop()


def said(answer):
    """The text of an answer, streamed or not."""
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"].startswith("application/json"):
        return answer.json()["choices"][0]["message"]["content"]
    frames = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert frames[-1] == "[DONE]"
    choices = [choice for frame in frames[:-1] for choice in json.loads(frame)["choices"]]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def charged(server):
    record = server.usage(server.org)[0]
    return record["status"], record["input_tokens"], record["output_tokens"], D(record["cost"])


@pytest.mark.parametrize("stream", [False, True])
def test_each_way_to_answer_is_charged_by_what_was_counted(server, upstream, stream):
    expected = {
        "lines": ('Hello "you"\n', 10, 4),
        "whole": ('you asked: say "hi"\\', 10, 5),
        "tasks": ("made", 7, 3),
    }
    for model, (text, asked, answered) in expected.items():
        answer = server.chat('say "hi"\\', model=model, stream=stream, max_tokens=64)
        assert said(answer) == text
        cost = (D(2) * asked + D(8) * answered) / 1_000_000
        assert charged(server) == ("settled", asked, answered, cost)
    paths = [path for path, _, _ in upstream.asked]
    assert paths == ["/v2/models/large/generate", "/answer?model=whole-1", "/tasks"]
    _, headers, body = upstream.asked[0]
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["authorization"] == "Token sesame" and headers["x-request-id"]
    assert body["limit"] == 64 and body["input"][0]["content"] == 'say "hi"\\'
    assert "sesame" not in server.logged()
    # What a caller sends is not taken for what the upstream or the operator said.
    hostile = server.chat("x", model="tasks", taskid="1", apikey="none", stream=stream)
    assert said(hostile) == "made" and max(upstream.tasks) == "2"


def test_what_goes_wrong_costs_nothing(server, upstream):
    for mood, model in (
        ("refuse", "whole"), ("redirect", "whole"), ("rubbish", "whole"), ("failing", "tasks"), ("rubbish", "lines"),
        ("long line", "lines"),
    ):
        upstream.mood = mood
        answer = server.chat("x", model=model, stream=model == "lines")
        broken = answer.status_code == 502 or '"error"' in answer.text
        assert broken, (mood, answer.status_code, answer.text[:500])
        assert charged(server)[3] == 0, mood
    upstream.mood = "fine"
    wait_until(lambda: server.chat("x", model="whole").status_code == 200, "the upstream is tried again", 15)


def test_a_stream_that_is_cut_is_charged_for_what_came(server, upstream):
    upstream.mood = "cut"
    answer = server.chat("x", model="lines", stream=True)
    assert "Hel" in answer.text and "[DONE]" not in answer.text
    assert wait_until(lambda: charged(server)[3] > 0 and charged(server)[2] <= 2, "what came is charged")


def test_an_answer_may_not_be_huge_and_a_task_not_endless(tmp_path, upstream):
    def edit(text):
        return text.replace("kind: uapi\n", "kind: uapi\n  max_answer_bytes: 100000\n  total_timeout_ms: 1500\n")

    server = start_example(tmp_path, upstream.url, edit=edit)
    try:
        upstream.mood = "huge"
        assert server.chat("x", model="whole").status_code == 502
        upstream.mood = "endless"
        begun = time.monotonic()
        assert server.chat("x", model="tasks").status_code in (502, 504)
        assert time.monotonic() - begun < 12
        assert D(server.wallet()["posted"]) == 100 and D(server.wallet()["held"]) == 0
    finally:
        server.stop()


def test_private_addresses_are_not_reached_unless_allowed(tmp_path, upstream):
    with pytest.raises(AssertionError, match="no public address"):
        start_example(tmp_path, upstream.url, private="false")
    (tmp_path / "named").mkdir()
    port = upstream.url.rpartition(":")[2]
    server = start_example(tmp_path / "named", f"http://localhost:{port}", private="false")
    try:
        assert server.chat("x", model="whole").status_code == 502
        assert upstream.asked == []
    finally:
        server.stop()


@pytest.mark.parametrize("path", ["/../../admin", "//evil.example.com/x", "@evil.example.com/", "/{{ messages[-1].content }}"])
def test_a_path_stays_where_it_is(tmp_path, upstream, path):
    edit = lambda text: text.replace("path: /answer", f"path: '{path}'")  # noqa: E731
    server = start_example(tmp_path, upstream.url, edit=edit)
    try:
        server.chat("../../x", model="whole")
        for asked, headers, _ in upstream.asked:
            host = {name.lower(): value for name, value in headers.items()}["host"]
            assert host == upstream.url[7:] and ".." not in asked
    finally:
        server.stop()


@pytest.mark.parametrize("template", [
    "{% for a in messages %}{% for b in 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' %}{{ a }}{% endfor %}{% endfor %}{{ 'x' * 1000000000 }}",
    "{% for a in 'xxxxxxxxxx' * 100000 %}{{ a }}{% endfor %}",
    "{{ request.__class__.__mro__ }}{{ nothing.at.all() }}",
])
def test_hostile_templates_fail_the_call_and_nothing_else(tmp_path, upstream, template):
    edit = lambda text: text.replace('{"question": {{ messages[-1].content | tojson }}}', template)  # noqa: E731
    server = start_example(tmp_path, upstream.url, edit=edit)
    try:
        assert server.chat("x", model="whole").status_code == 502
        assert upstream.asked == [] and server.chat("x", model="lines").status_code == 200
    finally:
        server.stop()


@pytest.mark.parametrize("template", [
    "{{ messages[-1", "{% include '/etc/passwd' %}", "{% import 'x' as y %}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
])
def test_a_template_that_is_none_is_told_before_the_start(tmp_path, upstream, template):
    edit = lambda text: text.replace('{"question": {{ messages[-1].content | tojson }}}', template)  # noqa: E731
    with pytest.raises(AssertionError, match="uapi.call.data .*is not valid"):
        start_example(tmp_path, upstream.url, edit=edit)
