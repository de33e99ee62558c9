"""The page in a real browser, through a real server with the embedded model: what a person does, and what reaches the job.

One server with a token, one browser; videos are of a second of speech and 160 pixels. Polling happens here, because the page's policy
forbids `eval`, which Playwright's own `wait_for_function` needs.
"""

from __future__ import annotations

import json
import re
import shutil
import time
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.pipeline.settings import settings_list
from tests.serving.service_process import ServiceProcess

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TOKEN = "a-token-of-the-tests-0123456789abcdef"
LET_IN = {"Authorization": f"Bearer {TOKEN}"}
SECONDS = 1.0
SIDE = 160
MOST_WAITING = 2
OTHER_STEPS = 2
"""Steps of the server's second model, where none are given; it is hardly ever loaded."""
PATIENCE = 60
"""Seconds; the machine may be busy with other tests."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser Chromium is not installed")


class Server(ServiceProcess):
    """A running server, and what a client with the token sees of it."""

    def get(self, path: str) -> Any:
        return self.call("GET", path, headers=LET_IN).json()

    def videos(self) -> list[dict[str, Any]]:
        """Its videos, the newest first."""
        found: list[dict[str, Any]] = self.get("/v1/videos?order=desc")["data"]
        return found


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a portrait, a picture of two people, one of nobody, and a second of speech."""
    folder = tmp_path_factory.mktemp("inputs")
    example = embedded_folder() / "example"
    portrait = Image.open(example / "portrait.png").convert("RGB").crop((100, 0, 360, 260))
    portrait.save(folder / "portrait.png")
    two = Image.new("RGB", (520, 260))
    two.paste(portrait, (0, 0))
    two.paste(portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((234, 234)), (273, 13))
    two.save(folder / "two.png")
    Image.new("RGB", (260, 260), (90, 120, 90)).save(folder / "nobody.png")
    with wave.open(str(example / "speech.wav")) as source, wave.open(str(folder / "speech.wav"), "wb") as target:
        target.setparams(source.getparams())
        target.writeframes(source.readframes(int(SECONDS * source.getframerate())))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "tokens").write_text(f"tests={TOKEN}\n")
    (folder / "other").mkdir()
    for part in embedded_folder().iterdir():
        (folder / "other" / part.name).symlink_to(part)
    index = json.loads((embedded_folder() / "model_index.json").read_text())
    index["defaults"]["steps"] = OTHER_STEPS
    (folder / "other" / "model_index.json").unlink()
    (folder / "other" / "model_index.json").write_text(json.dumps(index))
    limits = ("--queued-jobs-per-client", str(MOST_WAITING))
    server = Server(folder, "--token-file", str(folder / "tokens"), "--models", str(folder / "other"), *limits)
    server.start()
    yield server
    server.stop()


@dataclass
class Seen:
    """What a browser did behind the page: messages of its console, hosts that it asked."""

    faults: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *fake])
        yield browser
        browser.close()


def open_page(browser: Browser, server: Server, seen: Seen, **options: Any) -> Page:
    """A page that has been let in, once its parts are there."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.on("pageerror", lambda error: seen.faults.append(str(error)))
    page.on("console", lambda told: seen.faults.append(told.text) if "Policy" in told.text else None)
    page.on("request", lambda request: seen.hosts.add(re.sub(r"^(blob:)?(\w+://[^/]+).*|^data:.*", r"\2", request.url)))
    page.goto(server.url)
    expect(page.locator("#token-dialog")).to_be_visible()
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.locator("html[data-ready]").wait_for(state="attached")
    return page


@pytest.fixture(scope="module")
def page(browser: Browser, server: Server, seen: Seen) -> Page:
    return open_page(browser, server, seen)


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """The first true value of a condition."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain")


def fresh(page: Page) -> None:
    """Begin with an empty form."""
    page.reload()
    page.locator("html[data-ready]").wait_for(state="attached")


def test_nothing_can_be_clicked_in_vain_before_the_page_is_ready(page: Page) -> None:
    """Before: for as long as the server took to answer, buttons looked alive, and what was clicked was lost."""

    def late(route: Route) -> None:
        time.sleep(0.7)
        route.continue_()

    page.route("**/v1/limits", late)
    page.reload()
    page.locator("#portrait-example").click()  # which waits until it can be clicked
    expect(page.locator("#portrait-told")).not_to_have_text(re.compile("Looking|^$"))
    page.unroute("**/v1/limits")


def give(page: Page, inputs: Path, picture: str = "portrait.png") -> None:
    """Choose a picture and the speech, as files."""
    page.set_input_files("#portrait-file", inputs / picture)
    page.set_input_files(".speech-slot input[type=file]", inputs / "speech.wav")
    expect(page.locator("#portrait-told")).not_to_have_text(re.compile("Looking|^$"))


def open_settings(page: Page) -> None:
    """Open all groups of settings."""
    for summary in (page.locator(".all-settings > summary"), *page.locator(".settings-group > summary").all()):
        if summary.evaluate("element => !element.parentElement.open"):
            summary.click()


def change(page: Page, name: str, value: Any) -> None:
    """Change a setting by its control, as a person does."""
    control = page.locator(f"[name={name}]")
    if control.evaluate("element => element.tagName") == "SELECT":
        control.select_option("" if value is None else str(value))
    else:
        control.fill("" if value is None else str(value))
        control.press("Tab")


def generate(page: Page, server: Server, **settings: Any) -> dict[str, Any]:
    """Generate what the form says, and return the job that ended."""
    open_settings(page)
    for name, value in ({"longest_side": SIDE, "steps": 2} | settings).items():
        change(page, name, value)
    before = {job["id"] for job in server.videos()}
    page.click("#generate")
    new = until(lambda: [job for job in server.videos() if job["id"] not in before])[0]
    job = until(
        lambda: (job := server.get(f"/v1/videos/{new['id']}"))["status"] not in ("queued", "in_progress") and job, 90
    )
    assert job["status"] == "completed", job["error"]
    expect(page.locator("#stage-actions")).to_be_visible()
    return job


@pytest.fixture(scope="module")
def first(page: Page, server: Server, inputs: Path) -> tuple[dict[str, Any], list[str]]:
    """The first video that is made through the page, and what the page told meanwhile."""
    give(page, inputs)
    page.evaluate(
        "const told = document.querySelector('#stage-told'); window.told = [];"
        "new MutationObserver(() => window.told.push(told.textContent)).observe(told, {childList: true});"
        "window.moved = 0; new PerformanceObserver((list) => list.getEntries().forEach("
        "(shift) => (window.moved += shift.hadRecentInput ? 0 : shift.value))).observe({type: 'layout-shift', buffered: true})"
    )
    job = generate(page, server, seed=1)
    return job, page.evaluate("window.told")


@pytest.fixture(scope="module")
def videos(first: tuple[dict[str, Any], list[str]], page: Page, server: Server, inputs: Path) -> list[dict[str, Any]]:
    """Two finished videos of other seeds, made through the page."""
    fresh(page)
    give(page, inputs)
    return [first[0], generate(page, server, seed=2)]


def faults(page: Page) -> list[str]:
    """Serious and critical violations that axe-core finds."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['target']}" for one in found if one["impact"] in ("serious", "critical")]


def test_a_video_is_made_with_progress_and_plays(page: Page, first: tuple[dict[str, Any], list[str]]) -> None:
    job, told = first
    assert job["video"]["width"] == SIDE
    assert len(set(told)) >= 3
    assert page.evaluate("window.moved") < 0.1
    video = page.locator("#stage-video")
    until(lambda: video.evaluate("video => video.readyState >= 2"))
    video.evaluate("video => { video.currentTime = 0; video.play(); }")
    until(lambda: video.evaluate("video => video.currentTime > 0.2"))
    card = page.locator(f"[data-job={job['id']}]")
    card.scroll_into_view_if_needed()
    until(lambda: card.locator("img").evaluate("image => image.naturalWidth > 0"))
    with page.expect_download() as download:
        page.click("#stage-buttons button:has-text('Download')")
    assert download.value.suggested_filename.endswith(".mp4")
    assert download.value.path().stat().st_size == job["video"]["bytes"]


OWN_VALUES: dict[str, Any] = {
    "steps": 2,
    "longest_side": SIDE,
    "max_seconds": 0.8,
    "fps": 20,
    "face": 0,
    "seed": 4_000_000_000,
    "audio_start_percent": 10,
    "audio_end_percent": 90,
    "guidance_start_percent": 20,
    "guidance_end_percent": 80,
    "segment_seconds": 5,
    "cache": "sea",
    # the network that separates is no part of the package
    "separate_speech": "off",
}
"""Values of settings whose ranges or neighbours forbid just any other value; the others are made from their descriptions."""


def other_value(setting: dict[str, Any]) -> Any:
    """A value of a setting that is not its default."""
    if setting["name"] in OWN_VALUES:
        return OWN_VALUES[setting["name"]]
    if setting["choices"]:
        return next(choice for choice in reversed(setting["choices"]) if choice != setting["default"])
    if setting["type"] == "string":
        return f"other {setting['name']}"
    own = setting["minimum"] if setting["default"] is None else setting["default"]
    far = setting["maximum"] if setting["maximum"] - own > own - setting["minimum"] else setting["minimum"]
    near = own + (far - own) / 5
    return round(near) if setting["type"] == "integer" else round(near, 2)


def test_every_setting_changed_in_the_page_is_in_the_job_that_ran(page: Page, server: Server, inputs: Path) -> None:
    fresh(page)
    give(page, inputs)
    described = {one["name"]: one for one in server.get("/v1/settings")["data"]}
    assert set(described) == {one.name for one in settings_list()}
    values = {name: other_value(one) for name, one in described.items()}
    assert [name for name, one in described.items() if values[name] == one["default"]] == ["separate_speech"]
    job = generate(page, server, **values)
    assert {name: job["settings"][name] for name in values} == values
    assert page.locator("#changed-count").text_content() == f"{len(values) - 1} changed"


def test_a_video_is_used_again_with_picture_speech_settings_and_seed(
    page: Page, server: Server, inputs: Path, videos: list[dict[str, Any]]
) -> None:
    fresh(page)
    first = videos[0]
    page.locator(f"[data-job={first['id']}] button[aria-label^='Use picture']").click()
    expect(page.locator("#reused")).to_contain_text("Picture, speech, settings and seed of")
    expect(page.locator("#portrait-told")).to_have_text("One face found.")
    expect(page.locator(".speech-result .time")).to_have_text("1 s")
    assert page.locator("#portrait-image").evaluate("image => image.naturalWidth") == 260
    assert page.locator("#reused button").count() == 0
    open_settings(page)
    # what was asked for, and not what the server decided by itself
    assert set(first["given"]) == {"seed", "longest_side", "steps"}
    expect(page.locator("#changed-count")).to_have_text("3 changed")
    assert page.locator("[name=seed]").input_value() == "1"
    assert page.locator("[name=longest_side]").input_value() == str(SIDE)
    expect(page.locator("[data-setting=seed] .mark")).to_be_visible()
    page.click("[data-setting=seed] .reset")
    assert page.locator("[name=seed]").input_value() == "0"
    page.click("#reset-settings")
    expect(page.locator("#changed-count")).to_have_text("")


def test_a_value_that_is_the_default_of_another_model_is_restored(page: Page, server: Server, inputs: Path) -> None:
    usual = next(one["default"] for one in server.get("/v1/settings")["data"] if one["name"] == "steps")
    assert usual != OTHER_STEPS
    files = [("image_reference", inputs / "portrait.png"), ("audio_reference", inputs / "speech.wav")]
    job = server.make(files, LET_IN, model="other", steps=str(usual))
    # before a worker takes it, as a rule; one that has taken it gives it up while it loads the model
    server.call("POST", f"/v1/videos/{job}/cancel", headers=LET_IN)
    fresh(page)
    page.locator(f"[data-job={job}] button[aria-label^='Use picture']").click()
    expect(page.locator("#reused")).to_contain_text("are in the form")
    open_settings(page)
    assert page.locator("[name=model]").input_value() == "other"
    assert page.locator("[name=steps]").input_value() == str(usual)


def test_what_was_in_the_form_before_comes_back(page: Page, inputs: Path, videos: list[dict[str, Any]]) -> None:
    fresh(page)
    give(page, inputs, "two.png")
    page.click("button.face[data-face='1']")
    page.set_input_files(".speech-slot:nth-of-type(2) input[type=file]", inputs / "speech.wav")
    open_settings(page)
    change(page, "seed", 77)
    page.locator(f"[data-job={videos[0]['id']}] button[aria-label^='Use picture']").click()
    expect(page.locator("#reused")).to_contain_text("are in the form")
    expect(page.locator(".speech-slot")).to_have_count(1)
    assert page.locator("[name=seed]").input_value() == "1"
    page.locator("#reused button", has_text="Bring back").click()
    expect(page.locator(".speech-filled:visible")).to_have_count(2)
    assert page.locator("button.face[aria-pressed=true]").count() == 2
    assert page.locator("[name=seed]").input_value() == "77"
    expect(page.locator("#reused")).to_be_hidden()


def test_two_videos_play_in_step(page: Page, videos: list[dict[str, Any]]) -> None:
    fresh(page)
    for job in videos:
        page.locator(f"[data-job={job['id']}] .compare-box").click()
    page.click("#compare-open")
    expect(page.locator("#compare-rows th")).to_have_text(["Seed"])
    expect(page.locator("#compare-rows td")).to_have_text(["1", "2"])
    until(
        lambda: page.evaluate("[...document.querySelectorAll('.pair video')].every((video) => video.readyState >= 3)")
    )
    expect(page.locator("#compare-play")).to_have_text("Play both")
    page.click("#compare-play")
    times = "[...document.querySelectorAll('.pair video')].map((video) => video.currentTime)"
    until(lambda: min(page.evaluate(times)) > 0.3)
    a, b = page.evaluate(times)
    assert abs(a - b) < 0.12
    assert page.evaluate("[...document.querySelectorAll('.pair video')].map((video) => video.muted)") == [False, True]
    assert faults(page) == []
    page.keyboard.press("Escape")
    expect(page.locator("#compare-dialog")).not_to_be_visible()


def test_a_compared_video_is_made_again_with_another_seed_in_one_click(
    page: Page, server: Server, videos: list[dict[str, Any]]
) -> None:
    fresh(page)
    for job in videos:
        page.locator(f"[data-job={job['id']}] .compare-box").click()
    page.click("#compare-open")
    before = {job["id"] for job in server.videos()}
    page.click("#compare-another-a")
    expect(page.locator("#compare-dialog")).not_to_be_visible()
    new = until(lambda: [job for job in server.videos() if job["id"] not in before])[0]
    assert page.evaluate("document.activeElement.id") == "stage-title"
    expect(page.locator("#summary")).to_contain_text("Needs a portrait and a speech.")
    expect(page.locator("#stage-actions")).to_be_visible()
    made = server.get(f"/v1/videos/{new['id']}")
    differ = [name for name, value in videos[0]["settings"].items() if made["settings"][name] != value]
    assert differ == ["seed"] and [one["field"] for one in made["inputs"]] == ["image_reference", "audio_reference"]


def test_a_video_is_checked_for_marks_by_file_and_from_the_history(
    page: Page, server: Server, inputs: Path, videos: list[dict[str, Any]]
) -> None:
    fresh(page)
    result, verdict = page.locator("#check-result"), page.locator(".verdict")
    page.locator(f"[data-job={videos[0]['id']}] button[aria-label^='Check']").focus()
    page.keyboard.press("Enter")
    expect(verdict).to_be_visible()
    expect(result).to_contain_text("Signed by this server. The statement says that a model made the video.")
    assert page.evaluate("document.activeElement.id") == "check-file"
    page.set_input_files("#check-file", inputs / "portrait.png")
    expect(page.locator("#check-error")).to_contain_text("The video is PNG, which is no video")
    expect(page.locator("#check-error button")).to_have_text("Choose another video")
    content = bytearray(server.call("GET", f"/v1/videos/{videos[0]['id']}/content", headers=LET_IN).content)
    content[len(content) // 2] ^= 1
    (inputs / "changed.mp4").write_bytes(content)
    page.set_input_files("#check-file", inputs / "changed.mp4")
    expect(verdict).to_contain_text("The signed statement does not hold")
    expect(result).to_contain_text("The file was changed after it was signed.")
    expect(page.locator("#check-error")).to_be_hidden()
    for scheme, width in (("dark", 1280), ("light", 360)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 740})
        assert faults(page) == []
        assert page.locator("#check-dialog").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.keyboard.press("Escape")
    expect(page.locator("#check-dialog")).not_to_be_visible()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Check the marks")
    assert not list((server.data / "uploads").iterdir())


def test_a_full_queue_tells_the_time_and_running_videos_are_cancelled(page: Page, server: Server, inputs: Path) -> None:
    fresh(page)
    give(page, inputs)
    open_settings(page)
    change(page, "steps", 900)
    for _ in range(MOST_WAITING):
        page.click("#generate")
        expect(page.locator("#stage-cancel")).to_be_visible()
        expect(page.locator("#generate")).to_be_enabled()
    page.click("#generate")
    expect(page.locator("#create-error")).to_contain_text("Possible again in")
    for _ in range(MOST_WAITING):
        running = server.videos()
        job = next(one for one in running if one["status"] in ("queued", "in_progress"))
        page.locator(f"[data-job={job['id']}] .card-picture").click()
        page.click("#stage-cancel")
        expect(page.locator("#stage-error")).to_contain_text("Cancelled")
        assert server.get(f"/v1/videos/{job['id']}")["status"] == "cancelled"
    # In a form that did not send it there are no entries to try again with.
    fresh(page)
    page.locator(f"[data-job={job['id']}] .card-picture").click()
    expect(page.locator("#stage-error p")).to_have_text("Cancelled.")
    expect(page.locator("#stage-error button")).to_have_text(["Use its picture, speech and settings"])


def test_what_another_tab_deletes_and_adds_is_seen_when_the_page_is(
    page: Page, server: Server, inputs: Path, videos: list[dict[str, Any]]
) -> None:
    fresh(page)
    gone = next(one for one in server.videos() if one["status"] == "cancelled")
    expect(page.locator(f"[data-job={gone['id']}]")).to_be_visible()
    server.call("DELETE", f"/v1/videos/{gone['id']}", headers=LET_IN)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator(f"[data-job={gone['id']}]")).to_have_count(0)
    expect(page.locator(f"[data-job={videos[0]['id']}]")).to_be_visible()


def test_errors_stand_beside_what_they_are_about(page: Page, inputs: Path) -> None:
    fresh(page)
    page.click("#generate")
    expect(page.locator("#portrait-error")).to_contain_text("There is no portrait yet.")
    assert page.evaluate("document.activeElement.id") == "portrait-file"
    give(page, inputs, "nobody.png")
    page.click("#generate")
    expect(page.locator("#portrait-error")).to_contain_text("No face was found")
    page.locator("#portrait-error button", has_text="Use the example").click()
    expect(page.locator("#portrait-told")).to_have_text("One face found.")
    open_settings(page)
    change(page, "guidance_start_percent", 70)
    change(page, "guidance_end_percent", 30)
    page.click("#generate")
    error = page.locator("[data-setting=guidance_start_percent] .error")
    expect(error).to_contain_text("must not exceed guidance_end_percent")
    assert page.evaluate("document.activeElement.name") == "guidance_start_percent"
    error.locator("button").click()
    expect(page.locator("[name=guidance_start_percent]")).to_have_value("0")


def test_faces_are_chosen_by_keyboard_and_each_gets_its_speech(page: Page, server: Server, inputs: Path) -> None:
    fresh(page)
    give(page, inputs, "two.png")
    faces = page.locator("button.face")
    expect(faces).to_have_count(2)
    page.focus("button.face[data-face='1']")
    page.keyboard.press("Enter")
    slots = page.locator(".speech-slot")
    expect(slots).to_have_count(2)
    page.focus("button.face[data-face='0']")
    page.keyboard.press("Space")
    expect(slots).to_have_count(1)
    open_settings(page)
    expect(page.locator("[name=face]")).to_have_value("1")
    page.click("button.face[data-face='0']")
    expect(slots).to_have_count(2)
    second = slots.nth(1)
    second.locator(".choice", has_text="Text").click()
    second.locator("textarea").fill("Yes.")
    second.locator("button", has_text="Read aloud").click()
    expect(second.locator(".speech-filled")).to_be_visible()
    assert faults(page) == []
    job = generate(page, server, longest_side=320, max_seconds=0.6)
    assert job["mode"] == "speakers"


def test_footage_is_dubbed(page: Page, server: Server, inputs: Path, videos: list[dict[str, Any]]) -> None:
    fresh(page)
    answer = server.call("GET", f"/v1/videos/{videos[0]['id']}/content", headers=LET_IN)
    (inputs / "footage.mp4").write_bytes(answer.content)
    give(page, inputs, "footage.mp4")
    expect(page.locator("#footage-note")).to_be_visible()
    assert generate(page, server, longest_side=None)["mode"] == "footage"


def test_dropped_and_pasted_files_go_where_they_belong(page: Page, inputs: Path) -> None:
    fresh(page)
    for event, place, name, kind in (
        ("paste", "document", "portrait.png", "image/png"),
        ("drop", "document.querySelector('#history')", "speech.wav", "audio/wav"),
    ):
        page.evaluate(
            """([event, bytes, name, type]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], name, {type}));
                const kinds = {paste: () => new ClipboardEvent(event, {clipboardData: data, bubbles: true, cancelable: true}),
                               drop: () => new DragEvent(event, {dataTransfer: data, bubbles: true, cancelable: true})};
                PLACE.dispatchEvent(kinds[event]());
            }""".replace("PLACE", place),
            [event, list((inputs / name).read_bytes()), name, kind],
        )
    expect(page.locator("#portrait-told")).to_have_text("One face found.")
    expect(page.locator(".speech-result .time")).to_have_text("1 s")


def test_camera_and_microphone_give_files(page: Page) -> None:
    fresh(page)
    page.click("#portrait-camera")
    until(lambda: page.evaluate("document.querySelector('#camera-picture').videoWidth > 0"))
    page.click("#camera-dialog button[value=take]")
    expect(page.locator("#portrait-image")).to_be_visible()
    page.locator(".speech-slot .choice", has_text="Microphone").click()
    page.click("button.record")
    expect(page.locator("button.record")).to_have_text("Stop")
    until(lambda: page.evaluate("document.querySelector('.speech-slot meter').value > 0.3"))
    page.click("button.record")
    expect(page.locator(".speech-result .time")).to_have_text(re.compile(r"\d s"))


def test_the_head_moves_as_lively_as_the_sliders_say(page: Page, browser: Browser, server: Server, seen: Seen) -> None:
    fresh(page)
    page.locator("[data-preset=Motion] .choice", has_text="Lively").click()
    assert page.locator("[name=w_face]").input_value() == "0.85"
    ghost = page.locator(".head-ghosts ellipse").first
    wide = ghost.get_attribute("transform")
    page.locator("[data-setting=w_body] input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("[name=w_body]").input_value() == "0.84"
    assert page.locator(".head-ghosts ellipse").first.get_attribute("transform") != wide
    page.emulate_media(reduced_motion="no-preference")
    page.locator("[data-preset=Motion] .choice", has_text="Natural").click()
    head = page.locator(".motion-head svg > g:last-child")
    start = head.get_attribute("transform")
    until(lambda: head.get_attribute("transform") != start)
    page.emulate_media(reduced_motion="reduce")


def test_a_lost_connection_is_told_and_found_again(page: Page) -> None:
    fresh(page)
    page.context.set_offline(True)
    page.click("#portrait-example")
    expect(page.locator("#bar")).to_contain_text("The server cannot be reached")
    page.context.set_offline(False)
    expect(page.locator("#bar")).to_contain_text("The server answers again")


def test_a_video_is_deleted(page: Page, server: Server, inputs: Path) -> None:
    fresh(page)
    job = server.videos()[0]
    page.locator(f"[data-job={job['id']}] button[aria-label^=Delete]").click()
    page.click("#delete-dialog button[value=delete]")
    expect(page.locator(f"[data-job={job['id']}]")).to_have_count(0)
    assert job["id"] not in [one["id"] for one in server.videos()]
    assert not list(server.data.rglob(f"*{job['id']}*"))


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)])
def test_the_page_is_accessible_in_light_and_dark_and_on_a_phone(
    page: Page, scheme: Any, width: int, videos: list[dict[str, Any]]
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 740})
    fresh(page)
    page.locator(f"[data-job={videos[0]['id']}] .card-picture").click()
    expect(page.locator("#stage-video")).to_be_visible()
    page.click("#stage-buttons button:has-text('Use again')")
    expect(page.locator("#reused")).to_contain_text("are in the form")
    inside = "[...document.querySelectorAll('.card, #reused')].every((box) => box.scrollWidth <= box.clientWidth && box.clientHeight < 500)"
    assert page.evaluate(inside)
    open_settings(page)
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.set_viewport_size({"width": 1280, "height": 900})


def test_nothing_breaks_the_policy_or_asks_another_host(page: Page, seen: Seen, server: Server) -> None:
    assert seen.faults == []
    assert {host for host in seen.hosts if host} == {server.url}
    assert "fantasytalking_session" in json.dumps(page.context.cookies())
