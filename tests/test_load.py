"""Many visitors for a short while: nothing fails, nothing leaks, nobody is left behind."""

from __future__ import annotations

import json
import socket
import sys
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import mean

import browser
import httpx2 as httpx
import pytest
from playwright.sync_api import expect, sync_playwright

import charlm
from charlm.bench import load
from charlm.bench.serving import CHROMIUM, CHROMIUM_ARGUMENTS, serving
from charlm.service.limits import MAX_STREAMS
from charlm.ui import MAX_QUEUED
from charlm.ui.unread import MAX_UNREAD

pytestmark = [
    pytest.mark.slow,
    pytest.mark.thorough,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
]


class App:
    """The app, and a program that calls it, each time as somebody new."""

    def __init__(self, url: str, pid: int):
        self.url, self.pid = url, pid
        self.api = httpx.Client(base_url=f"{url}gradio_api/", timeout=60)

    def ask(self, function: str, *data: object) -> httpx.Response:
        return self.api.post(f"call/{function}", json={"data": data})

    def event(self, function: str, *data: object) -> str:
        answer = self.ask(function, *data)
        assert answer.status_code == 200, answer.text
        return answer.json()["event_id"]

    def fetch(self, function: str, event: str) -> str:
        return self.api.get(f"call/{function}/{event}").text

    def call(self, function: str, *data: object) -> str:
        return self.fetch(function, self.event(function, *data))


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    with serving("-c", load.SHORT_MEMORY) as (url, process):
        yield App(url, process.pid)


def test_visitors_with_every_habit_for_some_seconds():
    outcome = load.measure(len(load.HABITS), 5, load.HABITS, calls=2)
    assert not outcome.errors
    assert "| errors | 0 " in load.report(outcome)
    assert all(megabytes > 0 for megabytes in outcome.unread.values()) and len(outcome.unread) == 2
    assert set(outcome.requests) == set(load.HABITS)
    assert min(outcome.written) >= mean(outcome.written) / 2
    assert len(outcome.waits) > 10
    assert outcome.after.temporary <= outcome.before.temporary
    # What a server keeps for its next visitors is bounded, whoever comes.
    assert outcome.after.threads <= outcome.before.threads + 20
    assert outcome.after.files <= outcome.before.files + 20
    assert outcome.after.memory <= outcome.before.memory * 1.15


def test_calls_leave_nothing_behind(app: App):
    large = load.TEXT[:256], "gpt", 0, 0
    for _ in range(5):
        app.call("attention", *large)
    before = load.memory(app.pid)
    for _ in range(50):
        assert "event: complete" in app.call("attention", *large)
    assert load.memory(app.pid) < before + 50


def test_answers_that_nobody_fetches_are_thrown_away(app: App):
    half = MAX_UNREAD // 2 + 10
    events = []
    for _ in range(2):
        events += [app.event("encode", "hii", "gpt") for _ in range(half)]
        assert "[46, 47, 47]" in app.fetch("encode", events.pop())
    assert "[46, 47, 47]" in app.call("encode", "hii", "gpt")
    assert "Nobody fetched this answer" in app.fetch("encode", events[0])
    assert "[46, 47, 47]" in app.fetch("encode", events[-1])


FEW_SESSIONS = """
from charlm import ui
from charlm.ui import unread
ui.MAX_SESSIONS = unread.MAX_UNREAD = 10
"""


def test_gradio_forgets_whoever_begins_to_read_and_leaves():
    with serving("-c", FEW_SESSIONS + load.SHORT_MEMORY) as (url, process):
        load.call_attention(url, 40, fetch=False)  # as many as are remembered, and more
        before = load.memory(process.pid)
        load.call_attention(url, 150, fetch=False)
        # 150 answers have some 53 MB together.
        assert load.memory(process.pid) < before + 27, (
            "Gradio keeps the answers of a client that begins to read and leaves. charlm/ui/unread.py relies "
            "on its forgetting them: see `sse_stream` in gradio/routes.py."
        )


def test_calls_share_few_sessions_and_nobody_gets_the_answer_of_another(app: App):
    """Many at once, some of which are left before they are read."""

    def ask(n: int) -> bool:
        text = "abcdefghijklmnopqrstuvwxyz"[n % 26] * (n + 1)
        event = app.event("encode", text, "gpt")
        if n % 5 == 0:
            with app.api.stream("GET", f"call/encode/{event}"):
                return True
        answer = app.fetch("encode", event).split("data: ")[1]
        return json.loads(answer)[0] == charlm.load("bigram").tokenizer.encode(text)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(60)))


def test_idle_connections_and_readers_that_never_read_keep_nobody_waiting(app: App):
    address = urllib.parse.urlsplit(app.url)
    others = [socket.create_connection((address.hostname, address.port)) for _ in range(520)]
    for connection in others[:20]:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
    try:
        for _ in range(5):
            assert "[46, 47, 47]" in app.call("encode", "hii", "gpt")
    finally:
        for connection in others:
            connection.close()


def test_a_full_queue_says_so_and_empties_again(app: App):
    for _ in range(20 * MAX_QUEUED):
        answer = app.ask("attention", load.TEXT[:150], "gpt", 0, 0)
        if answer.status_code != 200:
            break
    assert answer.status_code == 503
    assert "Queue is full" in answer.text
    while app.api.get("queue/status").json()["queue_size"]:
        time.sleep(0.1)
    assert "[46, 47, 47]" in app.call("encode", "hii", "gpt")


def test_a_visitor_writes_beside_many_who_took_all_places(app: App):
    browser.skip_without_browser()
    greedy = [app.event("generate", "ROMEO:", "gpt", 0.8, 0, 1.0, 5000, 1) for _ in range(MAX_STREAMS + 60)]
    assert "[46, 47, 47]" in app.call("encode", "hii", "gpt")
    assert app.api.get("queue/status").json()["queue_size"] == 0
    with sync_playwright() as p:
        page = p.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS).new_page()
        page.goto(app.url)
        page.locator("#start").click()
        expect(page.locator("#written .ch").first).to_be_attached(timeout=30_000)
    with app.api.stream("GET", f"call/generate/{greedy[-1]}") as answer:
        assert "event: generating" in next(answer.iter_lines())
