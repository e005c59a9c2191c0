"""Chromium, driven by playwright, and what goes wrong in a page."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, sync_playwright

from support.components import real_component

__all__ = ["PATIENCE", "Watched", "chromium", "watched"]

PATIENCE = 60_000
"""Milliseconds."""
_SAID_TWICE = "Failed to load resource"
_OF_NO_CONSEQUENCE = "ResizeObserver loop"
"""What a browser says where a page goes on laying out in its next frame; whether it says so depends on timing."""
_LEFT = "net::ERR_ABORTED"
"""Of requests that were under way when their page was left."""
_LOOK = 20
"""Milliseconds between looks at what is under way."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without windows; where there is none, the test that asks ends."""
    program = real_component("chromium")
    with sync_playwright() as playwright:
        # Tests may run as root, and in containers with little shared memory.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page, and what went wrong in it: ``(status, path)`` of responses, and texts of errors."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.refused: set[tuple[int, str]] = set()
        self.errors: list[str] = []
        self._under_way: set[Request] = set()
        page.set_default_timeout(PATIENCE)
        page.on("request", self._on_request)
        page.on("requestfinished", self._on_finished)
        page.on("response", self._on_response)
        page.on("requestfailed", self._on_failure)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("dialog", self._on_dialog)

    def forget(self) -> None:
        """Begin anew."""
        self.refused.clear()
        self.errors.clear()

    def settle(self) -> None:
        """Wait until what the page has asked for is there; a worker's program is not waited for."""
        waited = 0
        while any(request.resource_type in {"fetch", "xhr"} for request in self._under_way):
            assert waited < PATIENCE, [request.url for request in self._under_way]
            self.page.wait_for_timeout(_LOOK)
            waited += _LOOK

    def _on_request(self, request: Request) -> None:
        self._under_way.add(request)

    def _on_finished(self, request: Request) -> None:
        self._under_way.discard(request)

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self.refused.add((response.status, urlsplit(response.url).path))

    def _on_failure(self, request: Request) -> None:
        self._under_way.discard(request)
        if request.failure != _LEFT:
            self._note(f"{request.method} {request.url}: {request.failure}")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(_SAID_TWICE):
            self._note(message.text)

    def _on_dialog(self, dialog: Any) -> None:
        self._note(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _note(self, error: str) -> None:
        if _OF_NO_CONSEQUENCE not in error:
            self.errors.append(error)


@contextmanager
def watched(browser: Browser, **options: Any) -> Iterator[Watched]:
    """A fresh page of a fresh profile."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, **options)
    try:
        yield Watched(context.new_page())
    finally:
        context.close()
