"""Files of the hub: cached, fetched from a real server, or missing with a reason."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from maxsight.errors import WeightsMissing
from maxsight.models import hub


def test_the_hubs_cache_names_a_file_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"weights"
    expected = hashlib.sha256(content).hexdigest()
    plain = tmp_path / "model.bin"
    plain.write_bytes(content)
    assert hub.content_hash(plain) == expected
    # A name is believed only where the cache made it: behind a link.
    misnamed = tmp_path / ("0" * 64)
    misnamed.write_bytes(content)
    assert hub.content_hash(misnamed) == expected
    (tmp_path / "snapshot.bin").symlink_to(misnamed)
    assert hub.content_hash(tmp_path / "snapshot.bin") == expected, "a stranger made that link"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert hub.content_hash(tmp_path / "snapshot.bin") == "0" * 64


class TinyHub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download needs; it has one file."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        body = b"real bytes"
        if self.path == "/":
            self.send_response(200)
            body = b""
        elif self.path == "/owner/name/resolve/main/model.bin":
            self.send_response(200)
            self.send_header("ETag", '"' + "a" * 64 + '"')
            self.send_header("X-Repo-Commit", "c" * 40)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            body = b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def tiny_hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), TinyHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_once_then_read_from_the_cache(tiny_hub: str, tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys
        from maxsight.models import hub
        path = hub.fetch("owner/name", ["model.safetensors", "model.bin"], encoder="x")
        print(path.read_text(), hub.content_hash(path))
    """)
    environment = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_DISABLE_XET": "1", "PATH": ""}
    for endpoint in (tiny_hub, "http://127.0.0.1:9"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment | {"HF_ENDPOINT": endpoint},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.split() == ["real", "bytes", "a" * 64], done.stderr


def test_a_folder_is_taken_from_the_cache_if_it_has_what_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def fetch() -> Path:
        return hub.fetch_folder("someone/tiny", ["tokenizer*.json"], encoder="open_clip:x")

    with pytest.raises(WeightsMissing, match=r"tokenizer\*\.json of someone/tiny"):
        fetch()
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / ("d" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("d" * 40)
    (snapshot / "open_clip_model.safetensors").touch()
    with pytest.raises(WeightsMissing):
        fetch()
    (snapshot / "tokenizer.json").touch()
    assert fetch() == snapshot
