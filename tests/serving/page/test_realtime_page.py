"""The live panel in a real browser: the portrait says what is spoken while it is spoken, by microphone and from a file."""

from __future__ import annotations

import re
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.serving.page.test_page import (
    CHROMIUM,
    TOKEN,
    Seen,
    Server,
    change,
    inputs,
    open_page,
    open_settings,
    server,
    until,
)
from tests.serving.test_serving_docs import block_before

__all__ = ["inputs", "server"]

SECONDS = 3.0

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser Chromium is not installed")


@pytest.fixture(scope="module")
def speech(inputs: Path) -> Path:
    """Three seconds of speech: the second of `inputs`, again and again."""
    with wave.open(str(inputs / "speech.wav")) as source, wave.open(str(inputs / "spoken.wav"), "wb") as target:
        target.setparams(source.getparams())
        sound = source.readframes(source.getnframes())
        target.writeframes(sound * round(SECONDS * source.getframerate() / source.getnframes()))
    return inputs / "spoken.wav"


@pytest.fixture(scope="module")
def browser(speech: Path) -> Iterator[Browser]:
    """A browser whose microphone hears the speech."""
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    heard = f"--use-file-for-fake-audio-capture={speech}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *fake, heard])
        yield browser
        browser.close()


def state(page: Page) -> str | None:
    return page.locator("#live").get_attribute("data-state")


def shown(page: Page) -> float:
    """Seconds of video that were played."""
    return float(page.locator("#live-video").evaluate("video => video.readyState >= 2 ? video.currentTime : 0"))


@pytest.mark.slow
def test_speech_plays_while_it_is_spoken(browser: Browser, server: Server, inputs: Path, speech: Path) -> None:
    seen = Seen()
    page = open_page(browser, server, seen)
    page.click("#live-start")
    expect(page.locator("#live-error")).to_contain_text("There is no portrait yet.")
    page.set_input_files("#portrait-file", inputs / "portrait.png")
    expect(page.locator("#portrait-told")).to_have_text("One face found.")
    open_settings(page)
    for name, value in {"longest_side": 128, "steps": 2}.items():
        change(page, name, value)

    page.click("#live-start")
    until(lambda: state(page) == "live", 120)
    until(lambda: shown(page) > 0.5)
    # The microphone never ends by itself: the video plays while there is more to come.
    assert state(page) == "live"
    until(lambda: "shown" in page.locator("#live-delay").inner_text())
    axe = Axe().run(page, "#live").response["violations"]
    assert [one["id"] for one in axe if one["impact"] in ("serious", "critical")] == []
    page.click("#live-stop")
    expect(page.locator("#live-stop")).to_have_text("End at once")
    until(lambda: state(page) == "ended")
    assert page.evaluate("document.activeElement.id") == "live-start"

    page.set_input_files(".speech-slot input[type=file]", speech)
    page.locator("#live .choice", has_text="Chosen speech").click()
    page.click("#live-start")
    until(lambda: state(page) == "sending")
    until(lambda: state(page) == "ended")
    assert shown(page) >= SECONDS - 0.1
    assert seen.faults == []
    assert page.locator("#live-error").is_hidden()
    expect(page.locator("#live-delay")).to_have_text(re.compile(r"Delay: shown \d\.\d s, made \d\.\d s"))


@pytest.mark.slow
def test_the_live_client_of_the_docs_runs(
    server: Server, inputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(inputs)
    written = '"ws://127.0.0.1:8000/v1/realtime"'
    own = repr(server.url.replace("http", "ws", 1) + "/v1/realtime")
    letting_in = f"additional_headers={{'Authorization': 'Bearer {TOKEN}'}}"
    code = block_before("test_the_live_client_of_the_docs_runs", "python")
    assert written in code
    exec(code.replace(written, f"{own}, {letting_in}"), {})
    assert re.findall(r"'type': '([\w.]+)'", capsys.readouterr().out)[-1] == "session.ended"
    with av.open("live.mp4") as video:
        assert len(list(video.decode(video=0))) >= 25
