"""Live speech: chunks of any size, rests where there is none, sessions that are saved, threads that push."""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from fantasytalking.errors import AudioError, InputError, OutputError, SettingsError
from fantasytalking.pipeline.inputs import Portrait, load_portrait
from fantasytalking.pipeline.live_options import LiveOptions
from fantasytalking.pipeline.live_session import LiveSession
from fantasytalking.pipeline.long_output import StreamedFrame
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.progress import Progress
from tests.pipeline.tiny_pipeline import embedded_pipeline, speech, wan_pipeline
from tests.pipeline.tiny_pipeline import portrait as portrait_of
from tests.simulated_clock import SimulatedClock

PORTRAIT = portrait_of(160)
WAITING = LiveOptions(real_time=False)
SPEECH = speech(2.4).samples


class Quiet(Progress):
    def show_note(self, text: str) -> None:
        pass


@pytest.fixture(scope="module")
def pipelines() -> Callable[[str], FantasyTalkingPipeline]:
    made: dict[str, FantasyTalkingPipeline] = {}
    makers: dict[str, Callable[[], FantasyTalkingPipeline]] = {
        "embedded": lambda: embedded_pipeline(long_video="continue"),
        "wan": lambda: wan_pipeline(max_frames=33, longest_side=32),
        "trained": lambda: FantasyTalkingPipeline.from_pretrained("embedded"),
    }

    def one(kind: str) -> FantasyTalkingPipeline:
        if kind not in made:
            made[kind] = makers[kind]()
        return made[kind]

    return one


def pieces(samples: NDArray[np.float32], size: int) -> list[NDArray[np.float32]]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


@functools.cache
def portrait_for(pipeline: FantasyTalkingPipeline) -> Portrait:
    """The portrait as it is read, so that its face is looked for once."""
    return load_portrait(PORTRAIT, pipeline.settings(), pipeline.rules, True)


def session_of(pipeline: FantasyTalkingPipeline, **given: Any) -> LiveSession:
    return pipeline.live_session(portrait_for(pipeline), progress=Quiet(), long_video="continue", **given)


def said(
    pipeline: FantasyTalkingPipeline, chunks: Any, options: LiveOptions = WAITING, **given: Any
) -> list[StreamedFrame]:
    return list(
        pipeline.live(portrait_for(pipeline), chunks, options=options, progress=Quiet(), long_video="continue", **given)
    )


def sound_of(frames: list[StreamedFrame]) -> NDArray[np.float32]:
    return np.concatenate([frame.sound for frame in frames])


def assert_same(some: list[StreamedFrame], others: list[StreamedFrame]) -> None:
    for one, other in zip(some, others, strict=True):
        assert one.number == other.number and one.is_rest == other.is_rest
        assert np.array_equal(one.sound, other.sound) and np.array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize(("kind", "rate"), [("embedded", 16000), ("embedded", 24000), ("wan", 44100)])
def test_chunks_of_any_size_give_the_same_frames(
    kind: str, rate: int, pipelines: Callable[[str], FantasyTalkingPipeline]
) -> None:
    pipeline, samples = pipelines(kind), speech(1.6, rate).samples
    whole = said(pipeline, [samples], sample_rate=rate)
    assert [frame.number for frame in whole] == list(range(round(1.6 * whole[0].fps)))
    assert np.array_equal(sound_of(whole), samples) and not any(frame.is_rest for frame in whole)
    mixed = [None, samples[:0], *pieces(samples[:5000], 331), None, *pieces(samples[5000:], rate // 2)]
    assert_same(whole, said(pipeline, mixed, sample_rate=rate))


def test_bytes_and_whole_numbers_are_taken_as_well(pipelines: Callable[[str], FantasyTalkingPipeline]) -> None:
    pipeline = pipelines("wan")
    numbers = np.round(SPEECH[:8000] * 32767).astype(np.int16)
    data = numbers.astype("<i2").tobytes()
    usual = said(pipeline, [numbers])
    # an odd number of bytes at a time
    assert_same(usual, said(pipeline, [data[start : start + 333] for start in range(0, len(data), 333)]))
    assert_same(usual, said(pipeline, [(numbers / 32768).astype("<f4").tobytes()], pcm_format="f32le"))
    assert_same(usual, said(pipeline, [torch.from_numpy(numbers), []]))


def in_real_time(
    pipeline: FantasyTalkingPipeline, times: list[tuple[float, NDArray[np.float32]]], **given: Any
) -> tuple[list[StreamedFrame], list[float], SimulatedClock]:
    """Frames and when they came, of chunks that come at some times, after the last of which the session is finished."""
    clock = SimulatedClock()
    with session_of(pipeline, clock=clock, **given) as session:
        clock.events = [(at, lambda chunk=chunk: session.push(chunk)) for at, chunk in times]  # type: ignore[misc]
        clock.events.append((times[-1][0], session.finish))
        frames, came = [], []
        for frame in session:
            frames.append(frame)
            came.append(clock.now())
    return frames, came, clock


def stalled(samples: NDArray[np.float32], at: float, stall: float) -> list[tuple[float, NDArray[np.float32]]]:
    """Chunks of 100 ms in real time, with a stall."""
    times = []
    for number, chunk in enumerate(pieces(samples, 1600)):
        spoken = 0.1 * (number + 1)
        times.append((spoken + (stall if spoken > at + 1e-6 else 0.0), chunk))
    return times


@pytest.mark.parametrize("kind", ["embedded", "wan"])
def test_starved_of_speech_the_person_rests_and_goes_on_when_it_comes(
    kind: str, pipelines: Callable[[str], FantasyTalkingPipeline]
) -> None:
    frames, came, _ = in_real_time(pipelines(kind), stalled(SPEECH, 1.2, 3.0))
    fps, sound = frames[0].fps, sound_of(frames)
    # nothing is lost, and nothing but silence is put in, all of it in one place
    broken = round(1.2 * 16000)
    faded = broken + round(0.004 * 16000)
    put_in = faded + int(np.flatnonzero(sound[faded:])[0]) - broken
    rest = sound[broken + put_in :]
    assert np.array_equal(sound[:broken], SPEECH[:broken]) and np.array_equal(rest, SPEECH[broken:][: len(rest)])
    # the last frame may be half a frame short
    assert len(SPEECH) - broken - len(rest) <= 0.5 * 16000 / fps
    assert 2.2 < put_in / 16000 < 3.8
    rests = [frame.number for frame in frames if frame.is_rest]
    assert rests == list(range(rests[0], rests[-1] + 1)) and abs(len(rests) - put_in / 16000 * fps) <= 2
    # at the video's own rate all the time, a segment at a time
    ahead = [frame.number / fps - (at - came[0]) for frame, at in zip(frames, came, strict=True)]
    assert max(ahead[: rests[-1]]) < 1.0 and min(ahead) > -0.2
    # speech that comes in time is shown in time
    first = rests[0] - 1
    assert came[first] - 1.2 < 1.6


def test_speech_in_time_is_never_broken(pipelines: Callable[[str], FantasyTalkingPipeline]) -> None:
    for chunk in (320, 1600, 8000):
        times = [(len(piece) / 16000 + 1e-9 + start / 16000, piece) for start, piece in _placed(SPEECH, chunk)]
        frames, _, _ = in_real_time(pipelines("embedded"), times)
        assert not any(frame.is_rest for frame in frames) and np.array_equal(sound_of(frames), SPEECH)


def _placed(samples: NDArray[np.float32], size: int) -> list[tuple[int, NDArray[np.float32]]]:
    return [(start, samples[start : start + size]) for start in range(0, len(samples), size)]


def test_a_person_who_has_nothing_to_say_yet_rests(pipelines: Callable[[str], FantasyTalkingPipeline]) -> None:
    frames, came, clock = in_real_time(pipelines("embedded"), [(4.0, SPEECH[:16000])])
    spoken = [frame.number for frame in frames if not frame.is_rest]
    assert came[0] < 1.5 and spoken[0] > 50 and len(spoken) in (25, 26)
    assert clock.now() < 6.0


def test_speech_that_comes_at_once_is_not_made_long_before_it_is_due(
    pipelines: Callable[[str], FantasyTalkingPipeline],
) -> None:
    samples = SPEECH
    frames, came, _ = in_real_time(pipelines("wan"), [(0.0, samples)], options=LiveOptions(ahead_seconds=0.5))
    ahead = [frame.number / frame.fps - (at - came[0]) for frame, at in zip(frames, came, strict=True)]
    assert max(ahead) < 0.5 + 0.5 + 1.0 and not any(frame.is_rest for frame in frames)


@pytest.mark.parametrize(("kind", "rate"), [("embedded", 24000), ("wan", 16000)])
@pytest.mark.parametrize("after", [0, 5, 20])
def test_a_saved_session_goes_on_with_the_same_frames(
    kind: str, rate: int, after: int, pipelines: Callable[[str], FantasyTalkingPipeline], tmp_path: Path
) -> None:
    pipeline, samples = pipelines(kind), speech(2.4, rate).samples
    path = tmp_path / "session.safetensors"
    given: dict[str, Any] = {"options": WAITING, "sample_rate": rate, "seed": 3}
    with session_of(pipeline, **given) as session:
        # as soon as so many frames have come, half of the next sample is there
        session.push(np.ascontiguousarray(samples[: 2 * rate - 1000]))
        some = list(itertools.islice(session, after))
        data = np.round(samples[2 * rate - 1000 :] * 32767).astype("<i2").tobytes()
        session.push(data[:501])
        session.save(path)
        session.push(data[501:])
        session.finish()
        rest = list(session)
    pipeline.set_progress_bar_config(disable=True)
    with session_of(pipeline, **given, resume=path) as again:
        again.push(data[501:])
        again.finish()
        assert_same(rest, list(again))
    assert len(some) == after and len(some + rest) == round(2.4 * rest[0].fps)


def test_a_session_of_something_else_is_refused(
    pipelines: Callable[[str], FantasyTalkingPipeline], tmp_path: Path
) -> None:
    pipeline, path = pipelines("wan"), tmp_path / "session.safetensors"
    with session_of(pipeline) as session:
        session.save(path)
        with pytest.raises(OutputError, match="does not exist"):
            session.save(tmp_path / "missing" / "session.safetensors")
    with pytest.raises(InputError, match="made with another model, portrait, settings"):
        session_of(pipeline, resume=path, seed=5)
    for name, content, told in (
        ("nothing", None, "there is no such file"),
        ("pickle", b"\x80\x04N.", "cannot be read"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=told):
            session_of(pipeline, resume=tmp_path / name)
    other = tmp_path / "other.safetensors"
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, other)
    with pytest.raises(InputError, match="holds no live session"):
        session_of(pipeline, resume=other)


def test_memory_is_flat_over_many_segments(pipelines: Callable[[str], FantasyTalkingPipeline], tmp_path: Path) -> None:
    refs: deque[weakref.ref[Any]] = deque(maxlen=400)
    alive, sizes = list[int](), list[int]()
    path = tmp_path / "session.safetensors"
    frames = itertools.chain.from_iterable(itertools.repeat(pieces(SPEECH, 1600), 6))
    with session_of(pipelines("wan"), options=WAITING) as session:
        session.speech.pull_from(lambda: session.push(next(frames)))
        for frame in itertools.islice(session, 240):
            refs.append(weakref.ref(frame.pixels))
            alive.append(sum(ref() is not None for ref in refs))
            if frame.number % 8 == 0 and frame.number >= 160:
                session.save(path)
                sizes.append(path.stat().st_size)
    assert max(alive) <= 30
    assert max(sizes) <= 1.05 * min(sizes) and len(sizes) == 10


def test_a_thread_may_push_and_nobody_can_flood_a_session(pipelines: Callable[[str], FantasyTalkingPipeline]) -> None:
    options = LiveOptions(real_time=False, waiting_seconds=3.0)
    with session_of(pipelines("wan"), options=options) as session:
        assert session.push(SPEECH) and not session.push(SPEECH, timeout=0)
        assert session.push(SPEECH[:8000], timeout=0)

        def push() -> None:
            assert session.push(SPEECH[8000:24000])
            session.finish()

        thread = threading.Thread(target=push)
        thread.start()
        sound = sound_of(list(session))
        thread.join()
        with pytest.raises(AudioError, match="has been finished"):
            session.push(SPEECH)
    expected = np.concatenate([SPEECH, SPEECH[:24000]])
    assert np.array_equal(sound, expected[: len(sound)]) and len(expected) - len(sound) < 400


def test_a_cancelled_session_ends_at_once(pipelines: Callable[[str], FantasyTalkingPipeline]) -> None:
    options = LiveOptions(real_time=False, waiting_seconds=3.0)
    session = session_of(pipelines("wan"), options=options)
    assert session.push(SPEECH)
    threading.Timer(0.1, session.cancel).start()
    # there is no room, and never will be
    assert not session.push(SPEECH) and list(session) == []
    session = session_of(pipelines("wan"), options=options)
    session.push(SPEECH[:16000])
    threading.Timer(0.1, session.cancel).start()
    # after some frames it waits for speech that never comes
    assert len(list(session)) < 23 and not session.push(SPEECH[:100])


def test_a_source_that_fails_is_told_after_what_it_gave(pipelines: Callable[[str], FantasyTalkingPipeline]) -> None:
    def chunks() -> Any:
        yield SPEECH[:8000]
        raise OSError("the microphone is gone")

    for options in (WAITING, LiveOptions()):
        frames = pipelines("wan").live(PORTRAIT, chunks(), options=options, progress=Quiet(), long_video="continue")
        first = next(frames)
        with pytest.raises(OSError, match="the microphone is gone"):
            list(frames)
        assert np.array_equal(first.sound, SPEECH[: len(first.sound)])


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"long_video": "windows"}, SettingsError, "give long_video='continue'"),
        ({"sample_rate": 16001}, AudioError, "a multiple of 25, not 16001"),
        ({"sample_rate": 4000}, AudioError, "8,000 to 192,000"),
        ({"pcm_format": "mp3", "long_video": "continue"}, AudioError, "accepted are s16le, s32le, f32le"),
    ],
)
def test_what_cannot_be_live_is_refused(
    given: dict[str, Any], error: type[Exception], told: str, pipelines: Callable[[str], FantasyTalkingPipeline]
) -> None:
    with pytest.raises(error, match=told):
        pipelines("wan").live_session(PORTRAIT, progress=Quiet(), **given)


def test_what_is_no_speech_is_refused(pipelines: Callable[[str], FantasyTalkingPipeline]) -> None:
    with session_of(pipelines("wan")) as session:
        for chunk, told in (("words", "of type str"), ([0.1, float("nan")], "not all finite"), (object(), "object")):
            with pytest.raises(AudioError, match=told):
                session.push(chunk)
        session.push(b"\0\0\0")
        with pytest.raises(AudioError, match="ends within a sample: 1 bytes are left of 2"):
            session.finish()


def test_the_example_of_the_documentation_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = (Path(__file__).parents[2] / "docs" / "live.md").read_text().split("```python\n")[1:]
    (tmp_path / "examples").mkdir()
    Image.fromarray(PORTRAIT).save(tmp_path / "examples" / "portrait.png")
    monkeypatch.chdir(tmp_path)
    exec(code.split("```")[0], {})
    shown = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in shown[:25]] == list(range(25)) and "Delay from sound" in shown[-1]
