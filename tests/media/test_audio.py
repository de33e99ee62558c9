"""Sound of any kind becomes mono float samples, or one clear sentence."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path

import av
import numpy as np
import pytest

from fantasytalking.errors import AudioError
from fantasytalking.media.audio import Audio, fit_length, is_silent, load_audio, normalise_loudness
from fantasytalking.media.video import write_video
from tests.media.files import join, numbered_frames, tone, write_at_times, write_sound

KINDS = [
    ("a.wav", "pcm_s16le", 16000, "mono"),
    ("a.wav", "pcm_u8", 8000, "mono"),
    ("a.wav", "pcm_s24le", 44100, "stereo"),
    ("a.wav", "pcm_f32le", 96000, "5.1"),
    ("a.flac", "flac", 48000, "stereo"),
    ("a.mp3", "libmp3lame", 44100, "stereo"),
    ("a.m4a", "aac", 48000, "5.1"),
    ("a.mka", "aac", 22050, "mono"),
    ("a.ogg", "libopus", 48000, "stereo"),
    ("a.ac3", "ac3", 48000, "5.1"),
]


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    length = min(len(one), len(other))
    return float(np.corrcoef(one[:length], other[:length])[0, 1])


@pytest.mark.parametrize(("name", "codec", "rate", "layout"), KINDS, ids=[f"{k[1]}-{k[2]}-{k[3]}" for k in KINDS])
def test_any_container_codec_rate_and_layout_gives_the_same_sound(
    tmp_path: Path, name: str, codec: str, rate: int, layout: str
) -> None:
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    path = write_sound(tmp_path / name, np.tile(tone(1.5, rate), (channels, 1)), rate, codec, layout)
    audio = load_audio(path)
    assert audio.sample_rate == 16000
    assert audio.samples.dtype == np.float32 and audio.samples.ndim == 1
    assert abs(audio.seconds - 1.5) < 0.08
    # Streams without an edit list begin with the padding of the encoder, so the best lag up to 100 ms counts.
    lags = range(0, 1600, 4)
    assert max(_correlation(audio.samples[lag:], tone(1.5)) for lag in lags) > 0.98
    assert 0.5 < audio.samples.std() / tone(1.5).std() < 1.5


def test_the_sample_rate_can_be_chosen(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tone(1.0, 44100)[None], 44100)
    audio = load_audio(path, sample_rate=48000)
    assert audio.sample_rate == 48000 and len(audio.samples) == 48000
    assert _correlation(audio.samples, tone(1.0, 48000)) > 0.999


def test_speech_in_the_centre_of_surround_sound_is_loudest(tmp_path: Path) -> None:
    channels = np.tile(tone(1.0, 48000, pitch=1000.0), (6, 1))
    channels[2] = tone(1.0, 48000, pitch=300.0)  # front left, front right, centre, ...
    channels[3] = 0.9  # the low-frequency channel must not show
    audio = load_audio(write_sound(tmp_path / "a.wav", channels, 48000, layout="5.1"))
    spectrum = np.abs(np.fft.rfft(audio.samples))
    assert 0.3 < spectrum[300] / spectrum[1000] < 1.0 and spectrum[0] < 0.05 * spectrum[300]


def test_opposite_stereo_channels_do_not_cancel_out(tmp_path: Path) -> None:
    sound = tone(1.0)
    audio = load_audio(write_sound(tmp_path / "a.wav", np.stack([sound, -sound]), layout="stereo"))
    assert abs(_correlation(audio.samples, sound)) > 0.99


@pytest.mark.parametrize("level", [0.05, 0.2, 0.45])
def test_opposite_speech_is_heard_above_a_background_that_both_channels_share(tmp_path: Path, level: float) -> None:
    sound, noise = tone(2.0, 48000), np.random.default_rng(0).standard_normal(96000).astype(np.float32)
    shared = noise * level * np.sqrt(np.mean(sound**2))
    path = write_sound(tmp_path / "a.mka", np.stack([sound + shared, shared - sound]), 48000, "aac", "stereo")
    audio = load_audio(path, 48000)
    assert abs(_correlation(audio.samples, sound)) > 0.85


def test_speech_in_one_channel_and_different_channels_are_mixed_as_before(tmp_path: Path) -> None:
    sound, other = tone(1.0), tone(1.0, pitch=500.0)
    one = load_audio(write_sound(tmp_path / "a.wav", np.stack([sound, 0 * sound]), layout="stereo"))
    both = load_audio(write_sound(tmp_path / "b.wav", np.stack([sound, other]), layout="stereo"))
    assert np.abs(one.samples - sound / 2).max() < 1e-3
    assert np.abs(both.samples - (sound + other) / 2).max() < 1e-3


def test_a_rumble_in_the_low_frequency_channel_is_not_taken_for_speech(tmp_path: Path) -> None:
    channels = np.zeros((6, 16000), np.float32)
    channels[2], channels[3] = tone(1.0, level=0.02), 0.9
    audio = load_audio(write_sound(tmp_path / "a.wav", channels, layout="5.1"))
    assert _correlation(audio.samples, channels[2]) > 0.99


def test_the_sound_of_a_video_is_used(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", numbered_frames(25), 25, Audio(tone(1.0), 16000))
    audio = load_audio(path)
    assert len(audio.samples) == 16000
    assert _correlation(audio.samples, tone(1.0)) > 0.99


def test_sound_that_begins_after_the_picture_stays_in_step_with_it(tmp_path: Path) -> None:
    picture = write_at_times(tmp_path / "p.mp4", numbered_frames(20), [40 * k for k in range(20)])
    path = write_sound(tmp_path / "s.mka", tone(0.5, 48000)[None], 48000, "pcm_s16le", offset=0.3)
    with av.open(str(picture)) as one, av.open(str(path)) as two, av.open(str(tmp_path / "v.mkv"), "w") as target:
        streams = [(source, target.add_stream_from_template(source.streams[0])) for source in (one, two)]
        for source, stream in streams:
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
    samples = load_audio(tmp_path / "v.mkv").samples
    assert np.abs(samples[: int(0.29 * 16000)]).max() < 1e-3
    assert abs(len(samples) - 0.8 * 16000) < 200


def test_a_part_can_be_read_by_time(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tone(3.0, 48000)[None], 48000)
    part = load_audio(path, start=1.0, seconds=0.5)
    assert len(part.samples) == 8000
    assert np.allclose(part.samples, load_audio(path).samples[16000:24000], atol=1e-6)


def test_samples_above_full_scale_are_scaled_down(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", 8.0 * tone(1.0)[None], codec="pcm_f32le")
    samples = load_audio(path).samples
    assert np.abs(samples).max() == pytest.approx(1.0)
    assert _correlation(samples, tone(1.0)) > 0.999


def test_invalid_numbers_in_a_float_file_become_silence(tmp_path: Path) -> None:
    sound = tone(1.0)
    sound[100:200] = np.nan
    sound[300] = np.inf
    samples = load_audio(write_sound(tmp_path / "a.wav", sound[None], codec="pcm_f32le")).samples
    assert np.isfinite(samples).all() and np.all(samples[100:200] == 0.0)


def test_a_missing_empty_or_foreign_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is no sound at all\n" * 50)
    with pytest.raises(AudioError, match="does not exist"):
        load_audio(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="is a folder"):
        load_audio(tmp_path)
    with pytest.raises(AudioError, match=r"empty \(0 bytes\)"):
        load_audio(tmp_path / "empty.wav")
    with pytest.raises(AudioError, match="not a readable media file"):
        load_audio(tmp_path / "text.wav")


def test_a_header_without_samples_is_an_error(tmp_path: Path) -> None:
    whole = write_sound(tmp_path / "a.wav", tone(1.0)[None]).read_bytes()
    start = whole.index(b"data") + 8
    (tmp_path / "head.wav").write_bytes(whole[:start])
    with pytest.raises(AudioError, match="corrupt"):
        load_audio(tmp_path / "head.wav")


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.wav", "pcm_s16le"),
        ("a.mp3", "libmp3lame"),
        ("a.flac", "flac"),
        ("a.mka", "aac"),
        ("a.aiff", "pcm_s16be"),
        ("a.au", "pcm_s16be"),
    ],
)
def test_of_a_truncated_file_the_part_that_is_there_is_used_with_a_note(tmp_path: Path, name: str, codec: str) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 32000)).astype(np.float32)
    path = write_sound(tmp_path / name, noise, codec=codec)
    assert 1.9 < load_audio(path).seconds < 2.1
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(UserWarning, match=r"is incomplete: \d\.\d of its 2\.\d s could be read and are used\.$"):
        assert 0.7 < load_audio(path).seconds < 1.3
    # what is asked for is all there
    assert load_audio(path, seconds=0.5).seconds == 0.5


def wave_with_size(path: Path, size: int, behind: bytes = b"") -> Path:
    """Two seconds of sound whose header tells of `size` bytes, and something behind them."""
    data = write_sound(path, tone(2.0)[None]).read_bytes()
    place = data.index(b"data") + 4
    path.write_bytes(data[:place] + size.to_bytes(4, "little") + data[place + 4 :] + behind)
    return path


def test_a_wave_header_that_is_too_short_is_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"tells of 0\.5 s, which are used, although the file holds 2\.0 s"):
        assert load_audio(wave_with_size(tmp_path / "a.wav", 16000)).seconds == 0.5


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wave_header_without_a_length_is_told_and_all_of_the_sound_used(tmp_path: Path, size: int) -> None:
    with pytest.warns(UserWarning, match=r"header without a length, .* all of it, 2\.0 s, is used"):
        assert load_audio(wave_with_size(tmp_path / "a.wav", size)).seconds == 2.0


@pytest.mark.parametrize("behind", [b"", b"LIST\x04\x00\x00\x00INFO", b"id3 \x02\x00\x00\x00ab", b"\x00"])
def test_chunks_behind_the_samples_of_a_wave_file_are_no_sound(tmp_path: Path, behind: bytes) -> None:
    assert load_audio(wave_with_size(tmp_path / "a.wav", 64000, behind)).seconds == 2.0


def with_picture(path: Path, first_frame: float, offset: float = 0.0) -> Path:
    """One second of sound from `offset` seconds on, beside a picture that begins at `first_frame`."""
    times = [round(1000 * first_frame) + 40 * k for k in range(10)]
    picture = write_at_times(path.with_name("p.mkv"), numbered_frames(10), times)
    sound = write_sound(path.with_name("s.mka"), tone(1.0, 48000)[None], 48000, "pcm_s16le", offset=offset)
    return join(path, picture, sound)


@pytest.mark.parametrize(("first_frame", "offset"), [(0.6, 0.0), (0.0, 0.4), (0.0, 0.0)])
def test_the_sound_alone_is_all_of_it_whenever_the_picture_begins(
    tmp_path: Path, first_frame: float, offset: float
) -> None:
    path = with_picture(tmp_path / "v.mkv", first_frame, offset)
    samples = load_audio(path, from_picture=False).samples
    assert len(samples) == 16000 and _correlation(samples, tone(1.0)) > 0.99
    # beside its picture it is in step with that
    assert abs(load_audio(path).seconds - (1.0 - first_frame + offset)) < 0.02


def test_a_damaged_picture_does_not_matter_to_the_sound_alone(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", numbered_frames(25, 96, 128), 25, Audio(tone(1.0, 48000), 48000))
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size and packet.pos]
    data = bytearray(path.read_bytes())
    for place, size in places:
        data[place : place + size] = bytes(size)
    path.write_bytes(bytes(data))
    assert abs(load_audio(path, from_picture=False).seconds - 1.0) < 0.05


def test_of_several_sound_tracks_one_is_used_and_told(tmp_path: Path) -> None:
    one = write_sound(tmp_path / "one.mka", tone(1.0)[None])
    two = write_sound(tmp_path / "two.mka", tone(1.0, pitch=500.0)[None])
    with av.open(str(one)) as first, av.open(str(two)) as second, av.open(str(tmp_path / "v.mka"), "w") as target:
        pairs = [(source, target.add_stream_from_template(source.streams.audio[0])) for source in (first, second)]
        for source, stream in pairs:
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
    with pytest.warns(UserWarning, match="has 2 sound tracks, of which number 1 is used"):
        samples = load_audio(tmp_path / "v.mka", from_picture=False).samples
    assert _correlation(samples, tone(1.0)) > 0.99


def test_an_mp4_without_its_index_is_an_error(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.m4a", tone(2.0)[None], codec="aac")
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(AudioError, match="not a readable media file"):
        load_audio(path)


@pytest.mark.parametrize("seed", range(6))
def test_damaged_bytes_give_sound_or_a_clear_error_and_never_another_one(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    path = write_sound(
        tmp_path / ("a.mp3" if seed % 2 else "a.m4a"), tone(1.0)[None], codec="libmp3lame" if seed % 2 else "aac"
    )
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    data[random.integers(0, len(data), len(data) // 20)] = random.integers(0, 256, len(data) // 20)
    path.write_bytes(data.tobytes())
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* is incomplete")
            samples = load_audio(path).samples
    except AudioError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert np.isfinite(samples).all()
    assert not refusal or str(path) in refusal


@pytest.mark.parametrize(("name", "codec"), [("a.flac", "flac"), ("a.m4a", "aac"), ("a.ogg", "libopus")])
def test_where_the_middle_of_a_file_cannot_be_read_it_is_silent_and_told_and_the_rest_stays_in_its_place(
    tmp_path: Path, name: str, codec: str
) -> None:
    loud = np.repeat(np.array([0.1, 0.2, 0.1, 0.1, 0.4, 0.1], np.float32), 2 * 16000)
    path = write_sound(tmp_path / name, (loud * tone(12.0))[None], codec=codec)
    data = bytearray(path.read_bytes())
    bad = slice(int(0.42 * len(data)), int(0.58 * len(data)))
    data[bad] = bytes(bad.stop - bad.start)
    path.write_bytes(data)
    with pytest.warns(UserWarning, match=r"no sound that can be read from second \d\.\d to \d\.\d, and is silent"):
        samples = load_audio(path, 16000).samples
    assert len(samples) / 16000 == pytest.approx(12, abs=0.1)
    level = [float(np.abs(samples[round(16000 * at) :][:3200]).max()) for at in (1, 3, 5.9, 9, 11)]
    assert level[2] < 1e-3
    assert level[1] / level[0] == pytest.approx(2, rel=0.2) and level[3] / level[4] == pytest.approx(4, rel=0.2)


def test_a_video_without_sound_is_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", numbered_frames(5), 25)
    with pytest.raises(AudioError, match="a picture but no sound"):
        load_audio(path)


def test_a_silent_file_is_an_error_unless_allowed(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", np.zeros((1, 16000), np.float32))
    with pytest.raises(AudioError, match=r"is silent .nothing above -70 dBFS.; check that the right file"):
        load_audio(path)
    assert load_audio(path, allow_silent=True).seconds == 1.0


def test_a_tenth_of_a_second_is_too_short(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tone(0.1)[None])
    with pytest.raises(AudioError, match=r"lasts 0\.10 s and at least 0\.2 s are needed"):
        load_audio(path)
    assert load_audio(path, min_seconds=0.05).seconds == pytest.approx(0.1)


def test_a_file_that_is_too_long_names_the_option_and_is_not_decoded_whole(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", np.tile(tone(1.0), 600)[None])
    tracemalloc.start()
    with pytest.raises(AudioError, match=r"lasts 600\.0 s and at most 5 s are accepted; .*--max-seconds 5"):
        load_audio(path, max_seconds=5.0)
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()
    assert load_audio(path, max_seconds=5.0, seconds=5.0).seconds == 5.0


def test_quiet_and_loud_recordings_become_equally_loud() -> None:
    sound = tone(2.0, level=0.9)
    results = [normalise_loudness(sound * gain) for gain in (1.0, 0.1, 0.003)]
    assert all(np.allclose(result, results[0], atol=1e-3) for result in results)
    assert np.abs(results[0]).max() < 0.95
    assert 0.05 < results[0].std() < 0.2


def test_pauses_clicks_and_offsets_do_not_change_the_loudness_of_speech() -> None:
    sound = tone(2.0, level=0.02)
    plain = normalise_loudness(sound)
    pauses = normalise_loudness(np.concatenate([sound, np.zeros(48000, np.float32)]))
    click = sound.copy()
    click[20] = 1.0
    assert np.allclose(pauses[: len(sound)], plain, atol=0.02)
    assert abs(normalise_loudness(click)[4000:].std() / plain[4000:].std() - 1.0) < 0.15
    assert np.abs(normalise_loudness(click)).max() <= 0.95
    assert np.allclose(normalise_loudness(sound + 0.1), plain, atol=0.01)


def test_silence_and_nothing_are_left_alone_by_normalisation() -> None:
    noise = (1e-6 * np.random.default_rng(0).standard_normal(16000)).astype(np.float32)
    assert np.abs(normalise_loudness(noise)).max() < 1e-3
    assert normalise_loudness(np.zeros(0, np.float32)).size == 0


def test_silence_is_judged_by_the_loudest_moment() -> None:
    sound = np.zeros(160000, np.float32)
    assert is_silent(sound) and is_silent(sound[:0])
    sound[80000:81600] = tone(0.1, level=0.01)
    assert not is_silent(sound)


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat", "innocent.wav"])
def test_a_playlist_does_not_lead_to_another_file(tmp_path: Path, name: str) -> None:
    write_sound(tmp_path / "secret.mp3", tone(1.0)[None], codec="libmp3lame")
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp3\n#EXT-X-ENDLIST\n"
    concat = "ffconcat version 1.0\nfile secret.mp3\n"
    (tmp_path / name).write_text(concat if name.endswith("ffconcat") else hls)
    with pytest.raises(AudioError, match="not a readable media file"):
        load_audio(tmp_path / name)


def test_sound_is_cut_or_continued_with_silence_to_a_length() -> None:
    sound = np.array([0.1, 0.2, 0.3], np.float32)
    np.testing.assert_array_equal(fit_length(sound, 2), sound[:2])
    np.testing.assert_array_equal(fit_length(sound, 5), np.array([0.1, 0.2, 0.3, 0, 0], np.float32))
    assert fit_length(sound, 5).dtype == np.float32 and fit_length(sound[:0], 3).tolist() == [0, 0, 0]
