"""Upstreams described by templates, as in the example: each way to answer, and what goes wrong."""

import decimal
import json
import pathlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import Server, wait_until
from services import free_port
from test_mysql import URL, config
from test_mysql import verify as verify_books

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


WHOLE = {
    "path": "/answer",
    "headers": '{"authorization": "Token {{ apikey }}"}',
    "data": '{"question": {{ messages[-1].content | tojson }}}',
    "response": '{"content": {{ answer | tojson }}, "usage": {"prompt_tokens": {{ counted.asked }}, '
                '"completion_tokens": {{ counted.answered }}}}',
}
TASK = {"path": "/tasks", "data": '{"prompt": {{ messages[-1].content | tojson }}}', "response": '{"taskid": {{ id | tojson }}}'}
PROGRESS = {
    "path": "/tasks/{{ taskid }}", "method": "GET",
    "response": '{"status": {{ state | tojson }}, "content": {{ output | default("") | tojson }}}',
}


def describing(share=True, **whole):
    """The configuration of a server that describes upstreams, for itself and for servers that follow it."""
    def provider(name, **uapi):
        return {"name": name, "kind": "uapi", "base_url": f"https://{name}.example.com", "api_key": "never told", "uapi": uapi}

    return {"providers": [
        provider("whole", share=share, call={**WHOLE, **whole}),
        provider("tasks", share=True, mode="async", call=TASK, query=PROGRESS),
    ]}


def following(url, key, base_url):
    """The configuration of a server that calls upstreams of its own by the descriptions of another."""
    def provider(name, **uapi):
        return {"name": name, "kind": "uapi", "base_url": base_url, "api_key": "own key", "uapi": {**uapi, "allow_private": True}}

    def model(name, *routes):
        price = {"currency": "CNY", "input_per_million": "2", "output_per_million": "8"}
        return {"name": name, "routes": list(routes), "price": price}

    return {
        "upstream": {"url": url, "dapi_key": key, "interval_seconds": 1},
        "providers": [
            provider("whole", cached="whole"),
            provider("tasks", cached="tasks", cached_query="tasks:query", period_ms=200),
            {"name": "sim", "kind": "sim"},
        ],
        "models": [
            model("whole", {"provider": "whole"}),
            model("tasks", {"provider": "tasks"}),
            model("safe", {"provider": "whole"}, {"provider": "sim", "model": "sim-small", "priority": 1}),
        ],
    }


def trouble(server, name="whole"):
    rows = server.admin.get("/admin/providers").raise_for_status().json()["rows"]
    return next(row["trouble"] for row in rows if row["name"] == name) or ""


def test_descriptions_of_a_followed_server_are_called_and_followed(start, upstream):
    source = start(Server, config=describing(), port=free_port())
    key = source.admin.post("/admin/orgs/platform/keys", json={"name": "follower", "role": "admin"}).json()["api_key"]
    server = start(Server, config=following(source.url, key, upstream.url))

    def describe(config):
        """Another description there; it is asked for at once, whatever failed while it was away."""
        source.stop()
        source.config = config
        source.start()
        assert server.admin.post("/admin/sync/uapi/run").status_code == 202

    wait_until(lambda: trouble(server) == trouble(server, "tasks") == "", "the descriptions are there")
    assert said(server.chat("hello", model="whole")) == "you asked: hello"
    assert charged(server) == ("settled", 10, 5, (D(2) * 10 + D(8) * 5) / 1_000_000)
    path, headers, _ = upstream.asked[-1]
    headers = {name.lower(): value for name, value in headers.items()}
    # Where it leads and with whose key, the operator here says.
    assert (path, headers["authorization"], headers["host"]) == ("/answer", "Token own key", upstream.url[7:])
    assert said(server.chat("hello", model="tasks")) == "made" and said(server.chat("x", model="safe", stream=True))
    feed = source.admin.get("/api/v1/changes", params={"entity": "uapi"}).raise_for_status().text
    assert "{{ apikey }}" in feed and "never told" not in feed

    describe(describing(data='{"question": "changed"}'))
    wait_until(lambda: said(server.chat("hello", model="whole")) == "you asked: changed", "the change counts")

    describe(describing(share=False))
    wait_until(lambda: "does not share" in trouble(server), "the description cannot be used")
    before, asked, calls = server.wallet(), len(upstream.asked), len(server.usage(server.org))
    refused = server.chat("hello", model="whole")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "provider_unavailable"), refused.text
    assert refused.headers["retry-after"]
    wallet = server.wallet()
    assert (wallet["posted"], wallet["held"], len(upstream.asked)) == (before["posted"], "0", asked)
    assert all(D(record["cost"]) == 0 for record in server.usage(server.org)[: len(server.usage(server.org)) - calls])
    assert said(server.chat("hello", model="safe")) and len(upstream.asked) == asked, "another route answers"
    assert "the provider cannot be called" in server.logged()
    figures = server.admin.get("/metrics").text
    assert 'ledgerline_provider_trouble{provider="whole"} 1' in figures
    assert 'ledgerline_provider_trouble{provider="tasks"} 0' in figures

    describe(describing())
    wait_until(lambda: trouble(server) == "", "it is shared again")
    # What was heard is kept: neither a start nor a followed server that is away takes it back.
    source.stop()
    server.kill()
    server.start()
    assert said(server.chat("hello", model="whole")) == "you asked: hello"

    describe({"providers": []})
    wait_until(lambda: "has no description" in trouble(server), "the description is gone")
    assert server.chat("hello", model="whole").status_code == 503 and said(server.chat("hello", model="safe"))


@pytest.mark.skipif(not URL, reason="no MySQL-compatible server (LEDGERLINE_TEST_MYSQL_URL)")
def test_every_instance_goes_by_what_one_of_them_has_heard(tmp_path, start, upstream):
    source = start(Server, config=describing(), port=free_port())
    key = source.admin.post("/admin/orgs/platform/keys", json={"name": "follower", "role": "admin"}).json()["api_key"]
    shared = {**config(), **following(source.url, key, upstream.url)}
    instances = []
    try:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            instances.append(Server(tmp_path / name, shared).start())

        def everywhere(expected):
            return all(said(server.chat("hello", model="whole")) == expected for server in instances)

        for server in instances:
            wait_until(lambda: trouble(server) == "", "the description is there")
        assert everywhere("you asked: hello")
        source.stop()
        source.config = describing(data='{"question": "changed"}')
        source.start()
        wait_until(lambda: everywhere("you asked: changed"), "the change counts everywhere", 30)
    finally:
        for server in instances:
            server.stop()
    verify_books(tmp_path / "a")


@pytest.mark.parametrize("change, complaint", [
    (lambda config: config.pop("upstream"), "upstream.url is empty"),
    (lambda config: config["providers"][0]["uapi"].update(mode="sync"), "uapi.cached beside"),
    (lambda config: config["providers"][0]["uapi"].update(cached=""), "uapi.call .*is missing"),
])
def test_a_description_is_either_followed_or_written(tmp_path, upstream, change, complaint):
    config = following("http://127.0.0.1:9", "key", upstream.url)
    change(config)
    with pytest.raises(AssertionError, match=complaint):
        Server(tmp_path, config).start()
