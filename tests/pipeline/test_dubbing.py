"""New speech over footage: what stays as filmed, what is made anew, and what is told of footage with faults.

Without the watermark, which is most of the difference to the source on frames as small as these.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fantasytalking.autoencoder.dub_areas import dub_outline
from fantasytalking.errors import AudioError, FaceError, OutputError, SettingsError, VideoError
from fantasytalking.media.audio import load_audio
from fantasytalking.media.video import probe_video, read_frames, write_video
from fantasytalking.perception.landmarks import face_mesh, mouth_opening, track_mesh
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.talking_video import VideoOutput
from fantasytalking.pipeline.written_video import WrittenVideo
from tests.media.files import left_over, write_at_times
from tests.pipeline.tiny_pipeline import EXAMPLE, embedded_pipeline, portrait, speech, wan_pipeline

Frames = NDArray[np.uint8]


class Quiet(Progress):
    """Notes are in the result."""

    def show_note(self, text: str) -> None:
        pass


@pytest.fixture(scope="module")
def tiny() -> FantasyTalkingPipeline:
    return embedded_pipeline(defaults={"steps": 1, "audio_guidance_scale": 1.0, "face_check": "off"})


@pytest.fixture(scope="module")
def wan() -> FantasyTalkingPipeline:
    return wan_pipeline(defaults={"steps": 4, "prompt_guidance_scale": 1.0, "audio_guidance_scale": 1.0})


def nodding(count: int, width: int = 192, height: int = 192) -> Frames:
    """Frames of a real face that moves to and fro by a few pixels; without fine detail, so that encoding loses little."""
    face = cv2.GaussianBlur(portrait(192), (0, 0), 1.2)
    shifts = np.array([[[1, 0, round(4 * np.sin(index / 2))], [0, 1, 0]] for index in range(count)], np.float32)
    return np.stack([cv2.warpAffine(face, m, (width, height), borderMode=cv2.BORDER_REPLICATE) for m in shifts])


def side_by_side(count: int) -> Frames:
    """Frames [F, 192, 360, 3] of two faces, the larger one on the left, up to column 192."""
    both = np.full((count, 192, 360, 3), 128, np.uint8)
    both[:, :, :192] = nodding(count)
    both[:, 20:188, 192:] = [cv2.resize(one, (168, 168), interpolation=cv2.INTER_AREA) for one in both[:, :, :192]]
    return both


def someone_else(count: int) -> Frames:
    """Frames of another face, which is the same one with larger eyes and nose, and another background."""
    face = portrait(192)
    points = face_mesh(face).points[:, :2]
    y, x = np.mgrid[0:192, 0:192].astype(np.float32)
    for point, growth in ((33, 0.5), (263, 0.5), (4, 0.6), (13, -0.5)):
        across, down = x - points[point, 0], y - points[point, 1]
        share = 1 - growth * np.clip(1 - np.hypot(across, down) / 30, 0, 1)
        face = cv2.remap(face, points[point, 0] + across * share, points[point, 1] + down * share, cv2.INTER_LINEAR)
    face[:60, :40] = face[:60, -40:] = (70, 100, 80)
    face[150:] = 100
    return np.repeat(cv2.GaussianBlur(face, (0, 0), 1.2)[None], count, 0)


def filmed(path: Path, frames: Frames, fps: float | Fraction = 25, sound: bool = True) -> Path:
    """A file of these frames, almost without loss, with a tone of another pitch than the speech's."""
    seconds = len(frames) / float(fps)
    return write_video(path, frames, fps, speech(seconds) if sound else None, crf=4, preset="ultrafast")


def dub(
    pipeline: FantasyTalkingPipeline, video: Path, output: Path, seconds: float = 0.4, **settings: Any
) -> WrittenVideo:
    # The watermark is a change of all pixels, and this is about where dubbing changes any.
    return pipeline.dub(video, speech(seconds), output, progress=Quiet(), **{"watermark": "off", **settings})


def psnr(a: Frames, b: Frames, where: NDArray[np.bool_]) -> float:
    error = (a[:, where].astype(np.float64) - b[:, where]) ** 2
    return float(10 * np.log10(255**2 / max(float(error.mean()), 1e-9)))


def outside(frames: Frames, area: Any = "lips") -> NDArray[np.bool_]:
    """Pixels that lie outside the dubbed area in all frames."""
    points, _ = track_mesh(frames)
    inside = np.zeros(frames.shape[1:3], np.uint8)
    for mesh in points:
        cv2.fillPoly(inside, [np.round(dub_outline(mesh, area)).astype(np.int32)], 1)
    return cv2.dilate(inside, np.ones((5, 5), np.uint8)) == 0


def test_the_packaged_model_moves_the_mouth_by_the_new_speech_and_leaves_the_rest_as_filmed(
    talking: Path, tmp_path: Path
) -> None:
    pipeline = FantasyTalkingPipeline.from_pretrained("embedded")
    source, rate = read_frames(talking / "calm.mp4", max_frames=24)
    video = filmed(tmp_path / "film.mp4", source, rate)
    new = load_audio(EXAMPLE / "speech.wav", start=0.6, seconds=1.2)
    result = pipeline.dub(video, new, tmp_path / "out.mp4", progress=Quiet(), steps=4, watermark="off")
    source, made = read_frames(video)[0], read_frames(result.path)[0]
    assert (result.frames, result.fps, result.width, result.height) == (24, 25.0, 256, 256)
    assert made.shape == source.shape
    where = outside(source)
    assert where.mean() > 0.7
    assert psnr(made, source, where) > 40
    old, now = (np.asarray(mouth_opening(track_mesh(frames)[0])) for frames in (source, made))
    assert np.abs(old - now).mean() > 0.005  # another mouth
    assert result.notes == ("The speech is longer than the footage (0.96 s), so what comes after that is left out.",)


@pytest.mark.parametrize("kind", ["ntsc", "odd and silent", "varying"])
def test_rate_size_and_length_are_those_of_the_footage(kind: str, tiny: FantasyTalkingPipeline, tmp_path: Path) -> None:
    path, frames = tmp_path / "film.mp4", nodding(12, *((191, 181) if kind == "odd and silent" else (192, 192)))
    rate = Fraction(30000, 1001) if kind == "ntsc" else Fraction(25)
    if kind == "varying":
        write_at_times(path, frames, [0, 40, 80, 120, 160, 240, 280, 320, 360, 400, 440, 480])
    else:
        filmed(path, frames, rate, sound=kind == "ntsc")
    result = dub(tiny, path, tmp_path / "out.mp4", 0.3)
    info, was = probe_video(result.path), probe_video(path)
    assert (info.fps, info.frames) == (was.fps, was.frames)
    assert (info.width, info.height) == (was.width + was.width % 2, was.height + was.height % 2)
    assert (result.width, result.height) == (info.width, info.height)
    sound = load_audio(result.path)
    assert sound.seconds == pytest.approx(was.seconds, abs=0.05)
    assert np.abs(sound.samples[round(0.35 * 16000) :]).max() < 0.02  # silence after the speech


def test_footage_of_a_phone_is_dubbed_upright(tiny: FantasyTalkingPipeline, tmp_path: Path) -> None:
    upright = nodding(8, 192, 180)
    stored = filmed(tmp_path / "lying.mp4", np.ascontiguousarray(np.rot90(upright, 1, (1, 2))))
    content = stored.read_bytes()
    place = content.index(b"tkhd") + 44
    # a quarter turn clockwise: the matrix a b u c d v of the track header, fixed point 16.16
    matrix = b"".join(int(value * 65536).to_bytes(4, "big", signed=True) for value in (0, 1, 0, -1, 0, 0))
    video = tmp_path / "phone.mp4"
    video.write_bytes(content[:place] + matrix + content[place + 24 :])
    result = dub(tiny, video, tmp_path / "out.mp4")
    made = read_frames(result.path)[0]
    assert made.shape[1:3] == (180, 192)
    source = read_frames(video)[0]
    assert psnr(made, source, outside(source)) > 40


def test_where_the_face_is_lost_for_five_seconds_and_after_a_cut_to_someone_else_the_frames_stay_as_filmed(
    tiny: FantasyTalkingPipeline, tmp_path: Path
) -> None:
    face = nodding(10)
    empty = np.full((25, 192, 192, 3), 60, np.uint8)
    empty[:, ::8] = 200
    video = filmed(tmp_path / "film.mp4", np.concatenate([face, empty, face]), 5)
    result = dub(tiny, video, tmp_path / "out.mp4", 8.5)
    source, made = read_frames(video)[0], read_frames(result.path)[0]
    everywhere = np.ones(source.shape[1:3], bool)
    assert psnr(made[10:35], source[10:35], everywhere) > 40
    for part in (slice(4, 6), slice(40, 42)):
        inside = ~outside(source[part])
        assert psnr(made[part], source[part], inside) < 38
    assert any(note.startswith("The face is not seen for 5.0 s (2.0 to 7.0 s)") for note in result.notes)


def test_a_shot_of_another_person_stays_as_filmed(tiny: FantasyTalkingPipeline, tmp_path: Path) -> None:
    video = filmed(tmp_path / "film.mp4", np.concatenate([nodding(8), someone_else(8), nodding(8)]))
    result = dub(tiny, video, tmp_path / "out.mp4", 1.0)
    source, made = read_frames(video)[0], read_frames(result.path)[0]
    everywhere = np.ones(source.shape[1:3], bool)
    assert psnr(made[8:16], source[8:16], everywhere) > 40
    assert psnr(made[18:22], source[18:22], ~outside(source[18:22])) < 38
    assert any(note.startswith("The face is not seen for 0.3 s (0.3 to 0.6 s): it is hidden") for note in result.notes)


def test_the_footage_is_dubbed_although_its_middle_cannot_be_read(tiny: FantasyTalkingPipeline, tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10, options={"g": "5", "crf": "8", "bf": "0"})
        stream.width = stream.height = 192
        stream.pix_fmt = "yuv420p"
        packets = [p for frame in nodding(30) for p in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))]
        for packet in [*packets, *stream.encode(None)]:
            container.mux(packet)
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = bytes(range(256)) * (third // 256) + bytes(third % 256)
    path.write_bytes(content)
    result = dub(tiny, path, tmp_path / "out.mp4", 2.5)
    assert result.frames == probe_video(path).frames == probe_video(result.path).frames
    assert any("cannot be read, or stands still, from" in note for note in result.notes)


def test_the_chosen_face_is_dubbed_and_the_other_one_stays(tiny: FantasyTalkingPipeline, tmp_path: Path) -> None:
    video = filmed(tmp_path / "film.mp4", side_by_side(6))
    source = read_frames(video)[0]
    first, second = dub(tiny, video, tmp_path / "0.mp4", 0.24), dub(tiny, video, tmp_path / "1.mp4", 0.24, face=1)
    made = read_frames(first.path)[0], read_frames(second.path)[0]
    mouths = np.zeros((2, *source.shape[1:3]), bool)
    for face, half in enumerate((slice(0, 192), slice(192, 360))):
        mouths[face, :, half] = ~outside(np.ascontiguousarray(source[:, :, half]))
    for face in (0, 1):
        assert psnr(made[face], source, mouths[1 - face]) > 38
        assert psnr(made[face], source, mouths[face]) < 37.5
    told = "2 faces are seen in the footage; the largest, face 0, is dubbed. Choose another with --face."
    assert told in first.notes and told not in second.notes
    with pytest.raises(FaceError, match=r"no face 5 in the video .* at most 2 are seen at once, so choose from 0"):
        dub(tiny, video, tmp_path / "none.mp4", 0.24, face=5)


def test_two_people_speak_each_with_a_track_of_their_own(tiny: FantasyTalkingPipeline, tmp_path: Path) -> None:
    both = side_by_side(8)
    video = filmed(tmp_path / "film.mp4", both, sound=False)
    early, late = speech(0.32), speech(0.32)
    early.samples[2560:] = 0
    late.samples[:2560] = 0
    tracks = {0: early, 1: late}
    together = tiny.dub(video, tracks, tmp_path / "both.mp4", progress=Quiet(), watermark="off")
    source, made = (read_frames(path)[0] for path in (video, together.path))
    alone = read_frames(tiny.dub(video, tracks[1], tmp_path / "1.mp4", face=1, progress=Quiet(), watermark="off").path)[
        0
    ]
    for half in (slice(0, 192), slice(192, 360)):
        mouth = ~outside(np.ascontiguousarray(source[:, :, half]))
        assert psnr(made[:, :, half], source[:, :, half], mouth) < 38
    assert psnr(made[:, :, half], alone[:, :, half], mouth) > 38  # as if no one else spoke
    sound = load_audio(together.path).samples
    whole = load_audio(write_video(tmp_path / "sound.mp4", both, 25, speech(0.32))).samples
    assert np.corrcoef(sound[:4800], whole[:4800])[0, 1] > 0.95
    with pytest.raises(SettingsError, match="face 1 was chosen besides"):
        tiny.dub(video, tracks, tmp_path / "out.mp4", face=1, progress=Quiet())


def test_the_old_sound_is_mixed_in_below_the_new(tiny: FantasyTalkingPipeline, tmp_path: Path) -> None:
    video = filmed(tmp_path / "film.mp4", nodding(15))
    loud = np.abs(load_audio(dub(tiny, video, tmp_path / "out.mp4", 0.24, dub_volume=0.5).path).samples)
    assert 0.08 < loud[round(0.3 * 16000) : round(0.55 * 16000)].max() < 0.25


def test_what_a_setting_cannot_do_with_this_model_is_told(tiny: FantasyTalkingPipeline, tmp_path: Path) -> None:
    video = filmed(tmp_path / "film.mp4", nodding(25), sound=False)
    notes = dub(
        tiny, video, tmp_path / "out.mp4", 0.3, dub_area="face", longest_side=128, fps=30.0, dub_volume=0.5
    ).notes
    assert "The footage has no sound, so dub_volume has no effect." in notes
    assert "This model moves mouth and chin of the filmed face, so dub_area has no effect." in notes
    assert "Footage keeps its size, so longest_side has no effect with this model." in notes
    assert "Footage keeps its frame rate, so the video does not have that of fps." in notes
    assert any(
        note.startswith("The speech ends 0.7 s before the footage; from there on the mouth rests") for note in notes
    )


def test_bad_footage_is_one_sentence_and_nothing_is_written(tiny: FantasyTalkingPipeline, tmp_path: Path) -> None:
    wall = filmed(tmp_path / "wall.mp4", np.full((8, 96, 96, 3), 120, np.uint8))
    short = filmed(tmp_path / "short.mp4", nodding(3))
    sound = tmp_path / "film.mp4"
    good = filmed(sound, nodding(6))
    before = left_over(tmp_path)
    for video, kind, message in (
        (wall, FaceError, "None of the 8 frames of the video .* shows a face"),
        (short, VideoError, "has 3 frames and at least 5 are needed"),
        (tmp_path / "missing.mp4", VideoError, "missing"),
    ):
        with pytest.raises(kind, match=message):
            dub(tiny, video, tmp_path / "out.mp4")
    with pytest.raises(AudioError, match="silent"):
        tiny.dub(good, (np.zeros(16000, np.float32), 16000), tmp_path / "out.mp4", progress=Quiet())
    with pytest.raises(OutputError):
        dub(tiny, good, good)
    assert left_over(tmp_path) == before


def test_memory_does_not_hold_the_frames(tiny: FantasyTalkingPipeline, tmp_path: Path) -> None:
    import tracemalloc

    peaks = []
    for empty in (10, 50):
        frames = np.concatenate([nodding(8), np.zeros((empty, 192, 192, 3), np.uint8)])
        video = filmed(tmp_path / f"{empty}.mp4", frames, 60)
        del frames
        tracemalloc.start()
        dub(tiny, video, tmp_path / f"{empty}_out.mp4", 0.25)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 40 frames more are 4.4 MB
    assert peaks[1] - peaks[0] < 2.5e6


def run_wan(wan: FantasyTalkingPipeline, video: Path, output: Path, **settings: Any) -> tuple[Frames, int]:
    """Frames of the dubbed file, and how often the transformer ran."""
    calls: list[int] = []
    hook = wan.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        result = dub(wan, video, output, 0.3, **settings)
    finally:
        hook.remove()
    return read_frames(result.path)[0], len(calls)


def test_a_model_of_the_released_layout_paints_the_area_anew_and_keeps_the_rest(
    wan: FantasyTalkingPipeline, tmp_path: Path
) -> None:
    video = filmed(tmp_path / "film.mp4", nodding(12))
    source = read_frames(video)[0]
    made, calls = run_wan(wan, video, tmp_path / "lips.mp4", dub_strength=1.0)
    assert made.shape == source.shape and calls == 4
    spoken = slice(1, 7)
    assert psnr(made, source, outside(source)) > 40
    assert psnr(made[spoken], source[spoken], ~outside(source)) < 30
    assert psnr(made[11:], source[11:], np.ones(source.shape[1:3], bool)) > 40  # after the speech
    whole, calls = run_wan(wan, video, tmp_path / "face.mp4", dub_strength=0.5, dub_area="face")
    assert calls == 2
    assert psnr(whole, source, outside(source, "face")) > 40
    assert psnr(whole[spoken], source[spoken], outside(source)) < 38  # more than the lips


@pytest.mark.parametrize("kind", ["motion", "windows", "continue"])
def test_speech_that_is_longer_than_a_clip_is_sampled_in_parts(
    kind: str, tiny: FantasyTalkingPipeline, wan: FantasyTalkingPipeline, tmp_path: Path
) -> None:
    pipeline = tiny if kind == "motion" else wan
    calls: list[int] = []
    hook = pipeline.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    video = filmed(tmp_path / "film.mp4", nodding(30), 10)
    mode = "windows" if kind == "windows" else "continue"
    try:
        result = dub(
            pipeline, video, tmp_path / "out.mp4", 2.8, steps=1, segment_seconds=1, long_video=mode, dub_strength=1.0
        )
    finally:
        hook.remove()
    assert len(calls) > 2
    source, made = read_frames(video)[0], read_frames(result.path)[0]
    assert made.shape == source.shape
    inside = ~outside(source)
    assert psnr(made, source, ~inside) > 40
    for part in (slice(2, 8), slice(20, 26)):
        assert psnr(made[part], source[part], inside) < 38


def test_less_strength_stays_nearer_to_the_filmed_latents(wan: FantasyTalkingPipeline, tmp_path: Path) -> None:
    video = filmed(tmp_path / "film.mp4", nodding(8))
    near, far = (run_wan(wan, video, tmp_path / f"{s}.mp4", steps=20, dub_strength=s)[0] for s in (0.05, 1.0))
    source = read_frames(video)[0]
    inside = ~outside(source)
    assert psnr(near[1:6], source[1:6], inside) != psnr(far[1:6], source[1:6], inside)


def test_outside_the_area_the_final_latents_are_those_of_the_source(wan: FantasyTalkingPipeline) -> None:
    from fantasytalking.pipeline.kept_footage import KeptFootage
    from fantasytalking.pipeline.noise_schedule import make_schedule

    generator = torch.Generator().manual_seed(0)
    source, noise, other = (torch.randn(1, 16, 2, 8, 8, generator=generator) for _ in range(3))
    area = torch.zeros(1, 1, 2, 8, 8)
    area[..., 4:] = 1
    kept = KeptFootage(source, area, 0.5)
    schedule, start = kept.begin(make_schedule(wan.scheduler, wan.settings(), torch.device("cpu")), noise)
    sigma = float(schedule.sigmas[0])
    assert len(schedule.timesteps) == 2 and 0 < sigma < 1
    assert torch.allclose(start, (1 - sigma) * source + sigma * noise, atol=1e-6)
    put = kept.keep(schedule, noise)
    last = put(1, schedule.timesteps[1], other)
    assert last is not None
    assert torch.equal(last[..., :4], source[..., :4]) and torch.equal(last[..., 4:], other[..., 4:])
    between = put(0, schedule.timesteps[0], other)
    sigma = float(schedule.sigmas[1])
    assert between is not None
    assert torch.allclose(between[..., :4], ((1 - sigma) * source + sigma * noise)[..., :4], atol=1e-6)


def test_an_error_and_ctrl_c_while_frames_are_made_leave_nothing(
    tiny: FantasyTalkingPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = filmed(tmp_path / "film.mp4", nodding(8))

    class Interrupted(Quiet):
        def show_stage(self, name: str, total: int) -> Any:
            if name == "dubbing":
                raise KeyboardInterrupt
            return super().show_stage(name, total)

    with pytest.raises(KeyboardInterrupt):
        tiny.dub(video, speech(0.3), VideoOutput(tmp_path / "out.mp4"), progress=Interrupted())
    assert left_over(tmp_path) == ["film.mp4"]
