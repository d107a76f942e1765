"""A real HTTP server that speaks OpenAI's protocol, and misbehaves as a test asks it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from nemo_cosmos.aliases import JsonObject

Body = JsonObject
#: Status, content and headers; None hangs up without a word.
Reply = tuple[int, bytes, dict[str, str]] | None


def words(text: str, finish: str = "stop") -> Reply:
    """A model's answer, in the format of chats and of completions at once."""
    message = {"role": "assistant", "content": text}
    choice = {"message": message, "text": text, "finish_reason": finish}
    return 200, json.dumps({"choices": [choice]}).encode(), {}


def question_of(body: Body) -> str:
    """The words of a chat request's last message."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else str(content[-1]["text"])


def num_pictures(body: Body) -> int:
    """How many pictures a chat request's last message shows."""
    content = body["messages"][-1]["content"]
    return sum(part["type"] == "image_url" for part in content if not isinstance(content, str))


class ChatServer:
    """Answers ``/v1/chat/completions`` and ``/v1/completions`` on this machine.

    Attributes:
        script: the first replies, in order; afterwards ``answer`` gives the words.
        answer: the words that answer a request.
        delay_s: the time that each reply takes.
        requests: the bodies that came.
        paths: the path of each request.
        keys: the ``Authorization`` header of each request.
        most_at_once: the largest number of requests that were open at the same time.
    """

    def __init__(self, answer: Callable[[Body], str]) -> None:
        self.answer = answer
        self.script: list[Callable[[], Reply]] = []
        self.requests: list[Body] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.delay_s = 0.0
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def reply(self, path: str, body: Body, key: str | None) -> Reply:
        """Note one request and decide its reply."""
        with self._lock:
            self.requests.append(body)
            self.paths.append(path)
            self.keys.append(key)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            scripted = self.script.pop(0) if self.script else None
        try:
            if path not in ("/v1/chat/completions", "/v1/completions"):
                return 404, b"no such path", {}
            time.sleep(self.delay_s)
            return scripted() if scripted else words(self.answer(body))
        finally:
            with self._lock:
                self.at_once -= 1

    def close(self) -> None:
        """Stop serving and free the port."""
        self._http.shutdown()
        self._http.server_close()


def _handler_of(server: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            reply = server.reply(self.path, body, self.headers.get("authorization"))
            if reply is None:
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

    return Handler
