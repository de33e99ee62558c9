"""Videos longer than the model's clips: segments that continue each other, fused windows, resuming, streaming."""

from __future__ import annotations

import itertools
import json
import shutil
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from numpy.typing import NDArray
from PIL import Image

from fantasytalking.errors import InputError, OutputError
from fantasytalking.media.audio import Audio
from fantasytalking.media.video import probe_video, read_frames
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.talking_video import TalkingVideo, VideoOutput
from fantasytalking.system.machine import usable_cores
from fantasytalking.system.processes import choose_one_thread, threads
from tests.media.files import left_over, write_sound
from tests.pipeline.tiny_pipeline import embedded_pipeline, speech, wan_pipeline
from tests.pipeline.tiny_pipeline import portrait as portrait_of


def portrait() -> NDArray[np.uint8]:
    return portrait_of(160)


class Quiet(Progress):
    def show_note(self, text: str) -> None:
        pass


@pytest.fixture(scope="module")
def wan() -> FantasyTalkingPipeline:
    return wan_pipeline(max_frames=25, longest_side=32)


@pytest.fixture(scope="module")
def embedded() -> FantasyTalkingPipeline:
    return embedded_pipeline(max_frames=33, long_video="continue")


def shown(pipeline: FantasyTalkingPipeline, seconds: float, **settings: Any) -> NDArray[np.uint8]:
    return pipeline(portrait(), speech(seconds), progress=Quiet(), **settings).frames


def latents_of(pipeline: FantasyTalkingPipeline, seconds: float, **settings: Any) -> list[torch.Tensor]:
    """Latents after the last step of each sampling."""
    found: list[torch.Tensor] = []

    def keep(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> None:
        if step == pipeline.num_timesteps - 1:
            found.append(tensors["latents"].clone())

    shown(pipeline, seconds, callback_on_step_end=keep, **settings)
    return found


@pytest.mark.parametrize("mode", ["continue", "windows"])
def test_a_video_of_any_length_is_as_long_as_its_speech(wan: FantasyTalkingPipeline, mode: str) -> None:
    video = wan(portrait(), speech(2.0), progress=Quiet(), long_video=mode)
    frames = list(video)
    assert len(frames) == len(video) == 46 and {frame.shape for frame in frames} == {(32, 32, 3)}
    # generated once more, and the same
    assert np.array_equal(video.frames, np.stack(frames))


def test_auto_is_what_the_model_says(wan: FantasyTalkingPipeline, embedded: FantasyTalkingPipeline) -> None:
    assert np.array_equal(shown(wan, 1.5), shown(wan, 1.5, long_video="windows"))
    assert np.array_equal(shown(embedded, 1.5), shown(embedded, 1.5, long_video="continue"))


@pytest.mark.parametrize("weights", ["linear", "pyramid"])
def test_windows_of_a_clip_that_fits_one_equal_the_plain_clip(wan: FantasyTalkingPipeline, weights: str) -> None:
    (plain,) = latents_of(wan, 0.9)
    (fused,) = latents_of(wan, 0.9, long_video="windows", window_weights=weights)
    assert (plain - fused).abs().max() <= 1e-5


def test_a_single_fused_window_is_the_plain_sampling() -> None:
    from fantasytalking.guidance import GuidancePlan
    from fantasytalking.pipeline.guidance_passes import Guidance
    from fantasytalking.pipeline.noise_schedule import make_schedule
    from fantasytalking.pipeline.sampling import denoise
    from fantasytalking.pipeline.settings import GenerationSettings
    from fantasytalking.pipeline.window_fusion import Window
    from tests.pipeline.tiny_pipeline import scheduler
    from tests.tiny import LATENT_FRAMES, LATENT_SIZE, tiny_conditions, tiny_transformer

    conditions = tiny_conditions()
    schedule = make_schedule(scheduler(), GenerationSettings(steps=3), torch.device("cpu"))
    model, guidance = tiny_transformer(), Guidance(conditions, GuidancePlan(has_negative=False))
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(1, 4, LATENT_FRAMES, *LATENT_SIZE, generator=generator)
    image = torch.randn(1, 8, LATENT_FRAMES, *LATENT_SIZE, generator=generator)
    window = Window(0, torch.ones(LATENT_FRAMES), conditions.audio)
    with torch.no_grad():
        plain = denoise(model, schedule, noise, image, guidance)
        fused = denoise(model, schedule, noise, image, guidance, windows=[window])
    assert (plain - fused).abs().max() <= 1e-5


def test_segments_begin_with_the_latents_that_the_one_before_ended_with(embedded: FantasyTalkingPipeline) -> None:
    first, second, *_ = latents_of(embedded, 2.0)
    codec = embedded.vae.codec
    before = codec.from_latents(first, noise=0.0)[0][-9:]
    after = codec.from_latents(second, noise=0.0)[0][:9]
    assert torch.allclose(before[:, :-2], after[:, :-2], atol=1e-3)


def test_what_segments_hear_is_the_speech_as_a_whole(wan: FantasyTalkingPipeline) -> None:
    from fantasytalking.pipeline.encoders import encode_speech
    from fantasytalking.pipeline.inputs import load_speech
    from fantasytalking.pipeline.settings import GenerationSettings
    from fantasytalking.pipeline.speech_track import SpeechTrack

    for fps in (None, 30.0):
        sound = load_speech(speech(33.0), GenerationSettings(fps=fps), wan.rules)
        whole = encode_speech(wan.encoders, sound, wan.rules, 1.0)
        assert whole.ranges is not None
        track = SpeechTrack(wan.encoders, sound, wan.rules)
        for first in (0, 64, sound.num_frames - 25):
            part = track.condition(first, 25, 1.0, "frame", unheard=1 if first else 0)
            assert part.ranges is not None
            for latent in range(1, 7):
                (low, high), (begin, end) = (
                    part.ranges[0, latent].tolist(),
                    whole.ranges[0, first // 4 + latent].tolist(),
                )
                heard = part.features[0, max(0, low - 4) : high + 5]
                expected = whole.features[0, max(0, begin - 4) : end + 5]
                assert heard.shape == expected.shape and torch.allclose(heard, expected, atol=1e-5)
            assert not first or int(part.ranges[0, 0].max()) + 4 < 0


def test_segments_end_in_pauses() -> None:
    from fantasytalking.pipeline.segments import next_segment

    def levels(first: int, end: int) -> NDArray[np.float32]:
        return np.array([0.001 if 70 <= frame < 82 else 0.3 for frame in range(first, end)], np.float32)

    first = next_segment(None, 401, 97, 9, levels)
    assert first.end == 81 and first.given == 0
    second = next_segment(first, 401, 97, 9, levels)
    assert (second.start, second.given, second.end) == (72, 9, 72 + 97)
    # without a pause, and the rest is worth a segment
    assert next_segment(None, 101, 97, 9, None).end == 93

    def hissing(first: int, end: int) -> NDArray[np.float32]:
        """A long pause, whose end is the quietest by a hair."""
        return np.array([0.01 - frame * 1e-6 if 60 <= frame < 90 else 0.3 for frame in range(first, end)], np.float32)

    # in the middle of the pause, and not where it ends
    assert next_segment(None, 401, 97, 9, hissing).end == 81


@pytest.mark.parametrize(("longest", "overlap"), [(5, 1), (9, 1), (13, 5), (17, 5), (21, 5), (25, 9), (81, 9)])
def test_segments_cover_every_length(longest: int, overlap: int) -> None:
    from fantasytalking.pipeline.segments import Segment, next_segment, overlap_of

    assert overlap_of(longest, 9) == overlap
    for total in range(1, 400, 4):
        segment: Segment | None = None
        while segment is None or not segment.is_last:
            end = 0 if segment is None else segment.end
            segment = next_segment(segment, total, longest, overlap, None)
            assert segment.start % 4 == 0 and segment.num_frames % 4 == 1 and segment.num_frames <= longest
            assert segment.end > end and segment.start + segment.given == end
        assert segment.end == total


@pytest.mark.parametrize("kind", ["linear", "pyramid"])
def test_the_weights_of_windows_add_up_to_one(kind: str) -> None:
    from fantasytalking.pipeline.segments import window_starts, window_weights

    for total in (7, 8, 21, 40):
        starts = window_starts(total, 7, 2)
        weights, sums = window_weights(kind, starts, 7, total), np.zeros(total)
        for start, row in zip(starts, weights, strict=True):
            sums[start : start + 7] += row
        assert np.allclose(sums, 1) and weights.min() > 0
        assert all(b - a <= 5 for a, b in itertools.pairwise(starts)) and starts[-1] + 7 == total


class Stopping(Quiet):
    """Interrupts after a number of frames."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.left = frames

    @contextmanager
    def show_stage(self, name: str, total: int) -> Iterator[Any]:
        def advance(steps: int = 1) -> None:
            self.left -= steps
            if name == "generating" and self.left <= 0:
                raise KeyboardInterrupt

        yield advance


@pytest.mark.parametrize("kind", ["embedded", "wan"])
def test_an_interrupted_run_goes_on_from_its_last_finished_segment(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pipeline = request.getfixturevalue(kind)
    settings = {"long_video": "continue", "seed": 3}
    usual = pipeline(portrait(), speech(3.0), progress=Quiet(), **settings)
    whole = usual.frames
    path, folder = tmp_path / "out.mp4", tmp_path / "out.mp4.unfinished"
    with pytest.raises(KeyboardInterrupt):
        pipeline(portrait(), speech(3.0), progress=Stopping(len(whole) - 5), output=VideoOutput(path), **settings)
    record = json.loads((folder / "progress.json").read_text())
    assert not path.exists() and record["seed"] == 3 and record["segment"] == len(record["segments"]) >= 2
    # each finished part plays
    done = [probe_video(folder / one["file"]).frames for one in record["segments"]]
    assert done == [one["frames"] for one in record["segments"]]

    made: list[NDArray[np.uint8]] = []
    with watched_frames(made):
        video = pipeline(portrait(), speech(3.0), progress=Quiet(), output=VideoOutput(path), **settings)
    assert len(made) == len(whole) - sum(done) and np.array_equal(np.stack(made), whole[sum(done) :])
    assert any("goes on from there" in note for note in video.notes) and video.seams == usual.seams
    info = probe_video(path)
    assert (info.frames, info.has_audio) == (len(whole), True) and list(tmp_path.iterdir()) == [path]
    assert len(video.frames) == len(whole)


@contextmanager
def watched_frames(made: list[NDArray[np.uint8]]) -> Iterator[None]:
    """Collects the frames before they are encoded."""
    from fantasytalking.media.video_writer import VideoWriter

    original = VideoWriter.write

    def write(self: VideoWriter, frame: NDArray[np.uint8]) -> None:
        made.append(frame.copy())
        original(self, frame)

    VideoWriter.write = write  # type: ignore[method-assign]
    try:
        yield
    finally:
        VideoWriter.write = original  # type: ignore[method-assign]


class Calls:
    """Counts the calls of a transformer, and interrupts one of them."""

    def __init__(self, pipeline: FantasyTalkingPipeline, most: float = float("inf")) -> None:
        self.count, self.most = 0, most
        self._hook = pipeline.transformer.register_forward_pre_hook(self._called)

    def _called(self, *_: object) -> None:
        if self.count >= self.most:
            raise KeyboardInterrupt
        self.count += 1

    def __enter__(self) -> Calls:
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def fused(
    pipeline: FantasyTalkingPipeline, path: Path, progress: Progress | None = None, **settings: Any
) -> TalkingVideo:
    given = {"long_video": "windows", "steps": 4, "seed": 3, **settings}
    return pipeline(portrait(), speech(2.0), progress=progress or Quiet(), output=VideoOutput(path, threads=1), **given)


def test_fused_windows_go_on_after_the_last_kept_step(
    wan: FantasyTalkingPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fantasytalking.pipeline.kept_steps._SHARE", float("inf"))
    path, folder, usual = tmp_path / "out.mp4", tmp_path / "out.mp4.unfinished", list[NDArray[np.uint8]]()
    with Calls(wan) as all_calls, watched_frames(usual):
        fused(wan, tmp_path / "whole.mp4")
    # in the middle of the third step
    with Calls(wan, all_calls.count / 2 + 1) as calls, pytest.raises(KeyboardInterrupt):
        fused(wan, path)
    record = json.loads((folder / "progress.json").read_text())
    assert (record["steps"], record["seed"], record["segments"]) == (2, 3, [])
    assert sorted(file.name for file in folder.iterdir()) == [record["state"], "progress.json"]
    # while it is decoded
    with Calls(wan) as calls, pytest.raises(KeyboardInterrupt):
        fused(wan, path, Stopping(20))
    assert calls.count == all_calls.count / 2 and not path.exists()
    made: list[NDArray[np.uint8]] = []
    with Calls(wan) as calls, watched_frames(made):
        video = fused(wan, path)
    assert calls.count == 0 and np.array_equal(np.stack(made), np.stack(usual))
    assert any("left 4 of 4 steps in 'out.mp4.unfinished'" in note for note in video.notes)
    assert left_over(tmp_path) == ["out.mp4", "whole.mp4"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"cache": "taylorseer"}, "its step cache"),
        ({"callback_on_step_end": lambda *_: None}, "its callback"),
        ({}, "its scheduler"),
    ],
)
def test_steps_that_depend_on_more_than_latents_are_not_gone_on_from(
    settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    pipeline = wan_pipeline(max_frames=25, longest_side=32)
    if not settings:
        pipeline.scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    progress = Quiet()
    with Calls(pipeline, 5), pytest.raises(KeyboardInterrupt):
        fused(pipeline, tmp_path / "out.mp4", progress, **settings)
    assert any(reason in note and "begins anew" in note for note in progress.notes)
    assert not list(tmp_path.iterdir())


def test_a_run_with_other_settings_begins_anew(embedded: FantasyTalkingPipeline, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        embedded(portrait(), speech(3.0), progress=Stopping(60), output=VideoOutput(path))
    video = embedded(portrait(), speech(3.0), progress=Quiet(), output=VideoOutput(path), seed=1)
    assert any("begins anew" in note for note in video.notes) and list(tmp_path.iterdir()) == [path]
    assert probe_video(path).frames == 75


def test_an_interruption_in_the_first_segment_leaves_nothing(embedded: FantasyTalkingPipeline, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        embedded(portrait(), speech(3.0), progress=Stopping(5), output=VideoOutput(tmp_path / "out.mp4"))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_what_is_finished(
    embedded: FantasyTalkingPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from safetensors.torch import save_file

    saved: list[Path] = []

    def save(tensors: Any, path: Path) -> None:
        if saved:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(path)
        save_file(tensors, path)

    path, folder = tmp_path / "out.mp4", tmp_path / "out.mp4.unfinished"
    monkeypatch.setattr("fantasytalking.pipeline.unfinished_run.save_file", save)
    with pytest.raises(OutputError, match="the disk is full"):
        embedded(portrait(), speech(3.0), progress=Quiet(), output=VideoOutput(path))
    assert not path.exists() and json.loads((folder / "progress.json").read_text())["segment"] == 1
    assert not list(folder.glob(".*"))
    monkeypatch.undo()
    embedded(portrait(), speech(3.0), progress=Quiet(), output=VideoOutput(path))
    assert probe_video(path).frames == 75
    shutil.rmtree(folder, ignore_errors=True)


def test_gradients_are_as_they_were_while_frames_are_taken(embedded: FantasyTalkingPipeline, tmp_path: Path) -> None:
    short = embedded(portrait(), speech(0.5), progress=Quiet(), output=VideoOutput(tmp_path / "out.mp4"))
    stream = embedded.stream(portrait(), speech(1.5), progress=Quiet())
    for frames in (embedded(portrait(), speech(1.5), progress=Quiet()), short, stream):
        for _ in itertools.islice(frames, 2):
            assert torch.is_grad_enabled()


def test_memory_is_flat_over_twenty_segments(
    wan: FantasyTalkingPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither frames nor the state that segments hand on pile up."""
    from fantasytalking.media.video_writer import VideoWriter
    from fantasytalking.pipeline.unfinished_run import UnfinishedRun

    states, alive = list[int](), list[int]()
    refs: deque[weakref.ref[Any]] = deque(maxlen=400)

    def write(self: VideoWriter, frame: NDArray[np.uint8]) -> None:
        refs.append(weakref.ref(frame))
        alive.append(sum(ref() is not None for ref in refs))
        self.frames += 1

    def finished(self: UnfinishedRun, part: Any, state: dict[str, torch.Tensor], seed: int, is_last: bool) -> None:
        states.append(sum(value.numel() for value in state.values()))
        self.parts.append(part)

    monkeypatch.setattr(VideoWriter, "write", write)
    monkeypatch.setattr(VideoWriter, "_finish", lambda self: None)
    monkeypatch.setattr(UnfinishedRun, "finished", finished)
    monkeypatch.setattr("fantasytalking.pipeline.long_output.join_parts", lambda *_: None)
    output = VideoOutput(tmp_path / "out.mp4", threads=1)
    video = wan(portrait(), speech(15.0), progress=Quiet(), output=output, long_video="continue")
    assert len(video.seams) >= 19 and len(alive) == len(video)
    assert max(alive) <= 20
    assert len(set(states[2:-1])) == 1


@pytest.mark.parametrize("segment", [1, 2])
def test_a_callback_may_end_a_long_video(wan: FantasyTalkingPipeline, segment: int, tmp_path: Path) -> None:
    steps: list[int] = []

    def stop(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> None:
        steps.append(step)
        pipeline._interrupt = len(steps) == 2 * segment - 1

    path = tmp_path / "out.mp4"
    settings: dict[str, Any] = {"long_video": "continue", "callback_on_step_end": stop}
    video = wan(portrait(), speech(3.0), progress=Quiet(), output=VideoOutput(path), **settings)
    assert len(video) == probe_video(path).frames == {1: 25, 2: 41}[segment]
    assert list(tmp_path.iterdir()) == [path]


def test_the_latents_of_a_long_video_are_refused(wan: FantasyTalkingPipeline) -> None:
    with pytest.raises(InputError, match="output_type 'latent' belongs to one clip"):
        wan(portrait(), speech(3.0), output_type="latent")


def test_a_batch_may_hold_long_and_short_videos(embedded: FantasyTalkingPipeline) -> None:
    videos = embedded([portrait(), portrait()], [speech(3.0), speech(0.5)], progress=Quiet())
    assert [len(list(video)) for video in videos] == [75, 12]


@pytest.mark.parametrize("kind", ["embedded", "wan"])
def test_a_stream_gives_each_frame_with_its_sound(kind: str, request: pytest.FixtureRequest) -> None:
    pipeline = request.getfixturevalue(kind)
    sound = speech(3.0)
    pieces = list(pipeline.stream(portrait(), sound, progress=Quiet(), long_video="continue"))
    assert [piece.number for piece in pieces] == list(range(round(3.0 * pieces[0].fps)))
    assert np.array_equal(np.concatenate([piece.sound for piece in pieces]), sound.samples)
    again = list(pipeline.stream(portrait(), Audio(sound.samples, 16000), progress=Quiet(), long_video="continue"))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(pieces, again, strict=True))


def test_speech_is_encoded_on_two_threads_where_nobody_asked_for_one(embedded: FantasyTalkingPipeline) -> None:
    seen: list[int] = []
    hook = embedded.audio_encoder.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    with threads(1):
        choose_one_thread()
        next(embedded.stream(portrait(), speech(1.5), progress=Quiet()))
        assert seen == [min(2, usable_cores())] and torch.get_num_threads() == 1
    hook.remove()


def test_a_stream_is_read_while_it_grows(embedded: FantasyTalkingPipeline, tmp_path: Path) -> None:
    from fantasytalking.media.stream_writer import StreamWriter

    path, grown = tmp_path / "growing.mp4", []
    frames = embedded.stream(portrait(), speech(3.0), progress=Quiet())
    with StreamWriter(path, 25, 16000) as writer:
        for piece in frames:
            writer.write(piece.pixels, piece.sound)
            if piece.number in (30, 60):
                grown.append(len(read_frames(path)[0]))
    assert 20 <= grown[0] <= 31 < 50 <= grown[1] <= 61
    info = probe_video(path)
    assert (info.frames, info.has_audio) == (75, True)


def test_the_example_of_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "long-video.md"
    (code,) = page.read_text().split("```python\n")[1:]
    (tmp_path / "examples").mkdir()
    Image.fromarray(portrait()).save(tmp_path / "examples" / "portrait.png")
    write_sound(tmp_path / "examples" / "speech.wav", speech(0.6).samples[None])
    monkeypatch.chdir(tmp_path)
    exec(code.split("```")[0], {})
    assert probe_video(tmp_path / "growing.mp4").frames == 15
