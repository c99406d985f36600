"""Every command and snippet in README and docs is run."""

import os
import pathlib
import re
import subprocess
import sys

import httpx

ROOT = pathlib.Path(__file__).parents[2]
BIN = pathlib.Path(os.environ.get("LEDGERLINE_BIN", "target/release/ledgerline")).resolve()


def blocks(name, language):
    text = (ROOT / name).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def test_the_readmes_name_the_same_two_commands():
    for name in ("README.md", "README.zh-CN.md"):
        assert [block.strip() for block in blocks(name, "sh")] == ["make run", "make test"], name
    makefile = (ROOT / "Makefile").read_text()
    assert "serve --dev" in makefile and "scripts/test" in makefile


def test_the_guide_for_operators_works_as_written(server, tmp_path):
    environment = {
        **os.environ, "PATH": f"{BIN.parent}:{os.environ['PATH']}", "URL": server.url,
        "ADMIN": server.dev["admin"]["api_key"],
    }
    shell = blocks("docs/operate.md", "sh")
    commands = [block for block in shell if "curl" in block or "config check" in block]
    assert len(shell) == 3 and len(commands) == 2
    assert "ledgerline serve --config config/ledgerline.yaml" in shell[0]
    for block in commands:
        done = subprocess.run(["bash", "-euc", block], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert '"available":"100"' in done.stdout and '"api_key":"llk_' in done.stdout, done.stdout
    (snippet,) = blocks("docs/operate.md", "python")
    snippet = f"URL, KEY = {server.url!r}, {server.key!r}\n{snippet}"
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and len(done.stdout.split()) == 24, done.stderr
    examples = blocks("docs/operate.md", "yaml") + blocks("docs/routing.md", "yaml") + blocks("docs/cache-and-guard.md", "yaml")
    for number, yaml in enumerate(examples):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml)
        values = {"DEEPSEEK_API_KEY": "k", "DB_PASSWORD": "p", "SERVER_SECRET": "s" * 40, "ONE": "1", "TWO": "2",
                  "REDIS_PASSWORD": "r", "ADMINISTRATORS_KEY_THERE": "k", "APP": "a", "APP_SECRET": "s"}
        done = subprocess.run(
            [BIN, "config", "check", "--config", str(file)], env={**os.environ, **values}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_the_guide_to_access_works_as_written(server, tmp_path):
    environment = {**os.environ, "URL": server.url, "ADMIN": server.dev["admin"]["api_key"]}
    (block,) = blocks("docs/access.md", "sh")
    done = subprocess.run(["bash", "-euc", block], env=environment, capture_output=True, text=True, timeout=60)
    key = re.search(r'"api_key":"(llk_[^"]+)"', done.stdout)
    assert done.returncode == 0 and key, done.stdout
    ask = lambda path: httpx.get(server.url + path, headers={"x-api-key": key[1]})
    actions = [row["action"] for row in ask("/admin/audit").raise_for_status().json()["rows"]]
    assert actions == ["key.create", "rule.create", "role.create"]
    assert ask("/admin/orgs").status_code == 403
    (yaml,) = blocks("docs/access.md", "yaml")
    (tmp_path / "proxies.yaml").write_text(yaml)
    command = [BIN, "config", "check", "--config", str(tmp_path / "proxies.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "10.0.0.0/8" in done.stdout, done.stderr
    text = (ROOT / "docs/access.md").read_text()
    for scope in {row["scope"] for row in server.admin.get("/admin/routes").json()["rows"]}:
        assert not scope or f"| `{scope}` |" in text, scope


def test_the_guide_to_the_agent_api_works_as_written(server):
    (block,) = blocks("docs/agents.md", "sh")
    environment = {**os.environ, "URL": server.url}
    done = subprocess.run(["bash", "-euc", block], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and '"status":"completed"' in done.stdout, done.stderr
    assert '"total_cost":0.' in done.stdout and '"type":"completed"' in done.stdout, done.stdout


def test_the_guide_to_protocols_works_as_written(server, tmp_path):
    dify = (ROOT / "tests/python/imports/support.dify.yml").read_text()
    (tmp_path / "support.yml").write_text(dify)
    environment = {**os.environ, "PATH": f"{BIN.parent}:{os.environ['PATH']}", "URL": server.url, "KEY": server.key}
    publish, imports = blocks("docs/protocols.md", "sh")
    for block, name in ((publish, '"name":"chat"'), (imports, '"name":"support"')):
        done = subprocess.run(
            ["bash", "-euc", block], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0 and name in done.stdout, done.stderr + done.stdout
    (snippet,) = blocks("docs/protocols.md", "python")
    snippet = f"URL, KEY = {server.url!r}, {server.key!r}\n{snippet}"
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "AIMessageChunk" in done.stdout, done.stderr
    (yaml,) = blocks("docs/protocols.md", "yaml")
    (tmp_path / "mcp.yaml").write_text(yaml)
    command = [BIN, "config", "check", "--config", str(tmp_path / "mcp.yaml")]
    done = subprocess.run(command, env={**os.environ, "SHELF_TOKEN": "t"}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_link_in_the_documents_leads_somewhere():
    documents = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    assert ROOT / "README.md" in documents and ROOT / "docs/operate.md" in documents
    for document in documents:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_snippet_of_the_readmes_answers_and_shows_the_cost(server):
    (snippet,) = blocks("README.md", "python")
    assert [snippet] == blocks("README.zh-CN.md", "python")
    assert "http://127.0.0.1:8000" in snippet and "llk_..." in snippet
    snippet = snippet.replace("http://127.0.0.1:8000", server.url).replace("llk_...", server.key)
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60)
    assert re.search(r"\ncost: 0\.\d+ left: 99\.\d+\n$", done.stdout), done.stderr
