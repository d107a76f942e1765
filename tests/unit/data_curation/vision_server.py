"""A real HTTP server that speaks the protocol of vision-language models, and misbehaves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = tuple[int, bytes, dict[str, str]] | None


def words(text: str, finish: str = "stop") -> Reply:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return 200, json.dumps({"choices": [choice]}).encode(), {}


class Server:
    """Answers ``/v1/chat/completions``; ``script`` decides the first replies, then ``answer``."""

    def __init__(self) -> None:
        self.answer: Callable[[dict], str] = _describe
        self.script: list[Callable[[], Reply]] = []
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.delay_s = 0.0
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                reply = server._reply(self.path, body, self.headers.get("authorization"))
                if reply is None:  # hang up without a word
                    self.close_connection = True
                    return
                status, content, headers = reply
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def _reply(self, path: str, body: dict, key: str | None) -> Reply:
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            scripted = self.script.pop(0) if self.script else None
        try:
            if path != "/v1/chat/completions":
                return 404, b"no such path", {}
            time.sleep(self.delay_s)
            return scripted() if scripted else words(self.answer(body))
        finally:
            with self._lock:
                self.at_once -= 1

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def _describe(body: dict) -> str:
    return f" A scene,\n seen in {pictures(body)}. "


def asked(body: dict) -> str:
    return body["messages"][0]["content"][-1]["text"]


def pictures(body: dict) -> int:
    return sum(item["type"] == "image_url" for item in body["messages"][0]["content"])
