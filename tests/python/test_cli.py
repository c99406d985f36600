"""The commands and pages, as a new user meets them."""

import json
import os
import pathlib
import re
import subprocess

import httpx
from conftest import BIN, Server, verify

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments, environment=None):
    return subprocess.run([BIN, *arguments], capture_output=True, text=True, timeout=60, env=environment)


def test_the_configuration_can_be_looked_at_without_its_secrets(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("database:\n  url: mysql://root:hunter2@h/d\nproviders:\n- {name: p, kind: openai, base_url: 'http://h/v1', api_key: hunter2}\n")
    shown = run("config", "check", "--config", str(file))
    assert shown.returncode == 0, shown.stderr
    assert "hunter2" not in shown.stdout and "***" in shown.stdout and "listen: 127.0.0.1:8000" in shown.stdout
    file.write_text("server:\n  lisen: 127.0.0.1:1\n")
    wrong = run("config", "check", "--config", str(file))
    assert wrong.returncode == 1 and "did you mean server.listen?" in wrong.stderr, wrong.stderr
    file.write_text("models:\n- {name: m, routes: [{provider: nobody}]}\n")
    wrong = run("config", "check", "--config", str(file))
    assert wrong.returncode == 1 and "nobody" in wrong.stderr
    assert run("config", "check", "--config", str(ROOT / "config/ledgerline.yaml")).returncode == 0


def test_dev_is_for_this_machine_only(tmp_path):
    refused = run("serve", "--dev", "--data", str(tmp_path / "d"), "--listen", "0.0.0.0:0")
    assert refused.returncode == 1 and "this machine only" in refused.stderr


def test_every_command_has_help_with_an_example():
    for command in [[], ["serve"], ["simulate"], ["verify"], ["migrate"], ["config", "check"], ["openapi"]]:
        shown = run(*command, "--help")
        assert shown.returncode == 0 and "Example" in shown.stdout, command


def test_the_demo_keeps_its_keys_and_the_books_their_hash(tmp_path):
    server = Server(tmp_path).start()
    assert (server.data / "dev.json").stat().st_mode & 0o777 == 0o600
    first = json.loads((server.data / "dev.json").read_text())
    assert server.chat().status_code == 200
    server.stop()
    before = verify(server.data)
    server.start()
    again = json.loads((server.data / "dev.json").read_text())
    assert first["customer"] == again["customer"] and first["admin"] == again["admin"]
    assert server.chat().status_code == 200
    server.stop()
    after = verify(server.data)
    assert before["ok"] and after["ok"] and after["head_seq"] == before["head_seq"] + 2


def test_verify_names_a_changed_row(tmp_path):
    import sqlite3

    server = Server(tmp_path).start()
    assert server.chat().status_code == 200
    server.stop()
    with sqlite3.connect(server.data / "ledgerline.db") as books:
        books.execute("UPDATE metering_usage SET cost = cost - 1")
    done = run("verify", "--data", str(server.data))
    assert done.returncode == 1 and "BROKEN records: ledger_operations 3" in done.stdout, done.stdout


def test_verify_and_migrate_say_what_they_did(tmp_path):
    missing = run("verify", "--data", str(tmp_path / "nothing"))
    assert missing.returncode == 1 and "there are no books" in missing.stderr
    first = run("migrate", "--data", str(tmp_path / "d"))
    assert first.returncode == 0 and "0001_identity" in first.stdout
    assert "up to date" in run("migrate", "--data", str(tmp_path / "d")).stdout
    assert "everything fits" in run("verify", "--data", str(tmp_path / "d")).stdout


def test_the_api_is_described_and_shown_without_a_network(server):
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert document == json.loads(run("openapi").stdout)
    assert {"/v1/chat/completions", "/v1/usage/{charge_id}", "/admin/orgs/{org_id}/grants"} <= set(document["paths"])
    for page in ("/docs", "/redoc"):
        html = httpx.get(f"{server.url}{page}").text
        assert not re.search(r"(src|href)=\"https?:", html)
        for asset in re.findall(r'(?:src|href)="(/[^"]+)"', html):
            answer = httpx.get(f"{server.url}{asset}")
            assert answer.status_code == 200 and len(answer.content) > 10_000, asset


def test_a_first_start_without_demo_leaves_an_administrators_key(tmp_path):
    process = subprocess.Popen([BIN, "serve", "--data", str(tmp_path / "d"), "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            event = json.loads(line)
            if event["message"] == "listening":
                break
        key = (tmp_path / "d" / "admin.key").read_text()
        answer = httpx.get(f"http://{event['address']}/admin/orgs", headers={"x-api-key": key})
        assert [row["id"] for row in answer.json()["rows"]] == ["platform"]
        assert httpx.get(f"http://{event['address']}/v1/models", headers={"x-api-key": key}).json()["data"] == []
    finally:
        process.terminate()
        process.wait(20)


def test_request_ids_and_health(server):
    answer = httpx.get(f"{server.url}/health", headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1" and answer.json()["checks"] == {
        "process": "ok", "database": "ok", "journal": "ok"
    }
    forged = httpx.get(f"{server.url}/livez", headers={"x-request-id": "a b\tc"})
    assert forged.headers["x-request-id"] != "a b\tc"
    assert server.chat("a secret prompt").status_code == 200
    assert "secret prompt" not in server.logged()


def test_settings_come_from_a_dotenv_file_and_the_environment_goes_before_it(tmp_path):
    (tmp_path / ".env").write_text('LOG_LEVEL=WARNING\nAPP_NAME="Our agents" # for people\nCACHE_TTL=300\n')
    clean = {name: value for name, value in os.environ.items() if name not in ("LOG_LEVEL", "APP_NAME", "CACHE_TTL", "DEBUG")}

    def shown(**environment):
        command = [BIN, "config", "check"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**clean, **environment})
        return done.returncode, done.stdout + done.stderr

    code, text = shown()
    assert code == 0 and "level: warn" in text and "app_name: Our agents" in text and "ttl_seconds: 300" in text, text
    code, text = shown(LOG_LEVEL="ERROR")
    assert code == 0 and "level: error" in text and "app_name: Our agents" in text, text
    (tmp_path / ".env").write_text("LEDGERLINE_LOG_LEVL=warn\n")
    code, text = shown()
    assert code == 1 and "did you mean LEDGERLINE_LOG_LEVEL?" in text, text
    (tmp_path / ".env").write_text("a line without a name\n")
    code, text = shown()
    assert code == 1 and ".env" in text, text


def test_lines_can_go_to_a_file_and_an_address_has_its_pace(tmp_path):
    file = tmp_path / "logs" / "api.log"
    server = Server(tmp_path, environment={"LOG_FILE": str(file), "RATE_LIMIT_PER_MINUTE": "5"}).start()
    answers = [server.client.get("/sessions") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    refused = answers[-1]
    assert 1 <= int(refused.headers["retry-after"]) <= 60 and refused.json()["success"] is False
    # The other surfaces and the probes go on.
    assert server.client.get("/health").status_code == 200 and server.chat().status_code == 200
    server.stop()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert any(line["message"] == "listening" for line in lines), lines
