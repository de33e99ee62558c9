"""Windows of latents as training samples: what is stored, cut so that speech moves with the video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fantasytalking.conditioning.audio_windows import window_index
from fantasytalking.data.latent_dataset import LatentDataset, Prefix, Window, speech_tokens
from fantasytalking.data.prepared_set import PreparedSet
from fantasytalking.data.samples import collate
from fantasytalking.errors import InputError, SettingsError
from fantasytalking.media.audio import Audio
from fantasytalking.pipeline.encoders import encode_speech
from fantasytalking.pipeline.inputs import Speech
from tests.pipeline.tiny_pipeline import wan_pipeline
from tests.tiny import tiny_wav2vec2, tiny_whisper
from tests.training.latent_set import FPS, made_up, write_set

CLIPS = {"a": made_up(13, seed=1), "b": made_up(27, 64, 48, seed=2, caption=""), "val-c": made_up(13, seed=3)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return PreparedSet.open(write_set(tmp_path_factory.mktemp("sets") / "set", wan_pipeline(), CLIPS))


@pytest.fixture(scope="module")
def dataset(prepared: PreparedSet) -> LatentDataset:
    return LatentDataset(prepared)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_sample_is_what_the_set_holds(prepared: PreparedSet, dataset: LatentDataset) -> None:
    arrays = prepared.arrays("a")
    sample = dataset.window(0, arrays, 1, 3)
    assert sample.name == "a@4"
    assert torch.equal(sample.latents, arrays["latents.1"].float())
    assert torch.equal(sample.condition, arrays["condition.1"].float())
    assert torch.equal(sample.lip_mask, arrays["lip_mask.1"].float())
    assert sample.audio is not None and torch.equal(sample.audio, arrays["speech.1"].float())
    assert sample.image is not None and torch.equal(sample.image, arrays["image.1"].float())
    assert sample.identity is not None and torch.equal(sample.identity, arrays["embedding"])
    assert sample.text.shape == (512, 16) and torch.equal(sample.text[:3], arrays["text"].float())
    assert not sample.text[3:].any()


def test_intensities_are_ranks_among_the_percentiles_of_the_set(prepared: PreparedSet, dataset: LatentDataset) -> None:
    arrays = prepared.arrays("a") | {"motion.0": torch.tensor([1e-3, 5.0])}
    sample = dataset.window(0, arrays, 0, 3)
    assert sample.motion is not None and sample.motion.tolist() == pytest.approx([0.5, 1.0])


def test_sizes_are_buckets_and_one_split_is_read(dataset: LatentDataset, prepared: PreparedSet) -> None:
    assert [row.key for row in dataset.rows] == ["a", "b"]
    assert dataset.sizes == [(3, 8, 8), (3, 8, 6)]
    assert [row.key for row in LatentDataset(prepared, "val").rows] == ["val-c"]


def test_windows_are_drawn_from_the_whole_clip(dataset: LatentDataset) -> None:
    names = {dataset.draw(Window(1, 3), rng(i)).name for i in range(12)}
    assert names == {"b@0", "b@18"}
    one, other = (dataset.draw(Window(1, 3), rng(5)) for _ in range(2))
    assert one.name == other.name and torch.equal(one.latents, other.latents)


def test_a_shorter_window_takes_its_speech_with_it(dataset: LatentDataset, prepared: PreparedSet) -> None:
    arrays = prepared.arrays("a")
    sample = dataset.window(0, arrays, 0, 2)
    assert sample.latents.shape == (16, 2, 8, 8) and sample.condition.shape[1] == sample.lip_mask.shape[1] == 2
    # 5 frames at 23 a second are 3478 samples; wav2vec2 makes 10 features of them
    assert sample.audio is not None and torch.equal(sample.audio, arrays["speech.0"][:10].float())


@pytest.mark.parametrize("frames", [5, 9, 41, 61, 81])
@pytest.mark.parametrize("encoder", [tiny_wav2vec2(), tiny_whisper()], ids=["wav2vec2", "whisper"])
def test_speech_tokens_are_counted_as_the_encoder_makes_them(frames: int, encoder: object) -> None:
    def made(count: int) -> int:
        wave = np.sin(np.arange(round(count / FPS * 16000)) / 9).astype(np.float32)
        return len(encoder.encode(wave))  # type: ignore[attr-defined]

    assert speech_tokens(frames, FPS, made(81), 81) == made(frames)


def test_frames_hear_the_windows_that_they_hear_at_inference(dataset: LatentDataset, prepared: PreparedSet) -> None:
    pipeline, samples = wan_pipeline(), CLIPS["a"].samples[: round(9 / FPS * 16000)]
    expected = encode_speech(pipeline.encoders, Speech(samples, Audio(samples, 16000), FPS, 9, 9), pipeline.rules, 1.0)
    short, long = dataset.window(0, prepared.arrays("a"), 0, 3), dataset.window(0, prepared.arrays("a"), 0, 3)
    batch = collate([short, long], "frame", 0.5, torch.ones(2, 3))
    audio = batch.conditions.audio
    assert audio is not None and audio.ranges is not None and audio.lengths is not None
    assert expected.ranges is not None
    assert torch.equal(audio.ranges, expected.ranges.expand(2, -1, -1))
    index, counts = window_index(audio.ranges, audio.features.shape[1], audio.lengths)
    wanted, real = window_index(expected.ranges, expected.features.shape[1])
    assert torch.equal(index, wanted.expand(2, -1, -1)) and torch.equal(counts, real.expand(2, -1))
    torch.testing.assert_close(audio.features[:1], expected.features, rtol=2e-3, atol=1e-3)  # stored in half precision


def test_a_prefix_is_given_with_mask_and_latents(prepared: PreparedSet) -> None:
    dataset = LatentDataset(prepared, prefix=Prefix(1.0, 3))
    plain = {
        f"a@{start}": LatentDataset(prepared).window(0, prepared.arrays("a"), i, 3) for i, start in enumerate((0, 4))
    }
    given = set()
    for seed in range(12):
        sample = dataset.draw(Window(0, 3), rng(seed))
        before = plain[sample.name]
        count = int(sample.condition[0, :, 0, 0].sum())
        given.add(count)
        assert torch.equal(sample.condition[:4, :count], torch.ones_like(sample.condition[:4, :count]))
        if count > 1:
            assert torch.equal(sample.condition[4:, :count], sample.latents[:, :count])
        assert torch.equal(sample.condition[:, count:], before.condition[:, count:])
    assert given == {1, 2, 3}


def test_a_set_without_latents_is_refused_with_the_way_to_make_them(tmp_path: Path, prepared: PreparedSet) -> None:
    rows = [replace(row, latent_size=None) for row in prepared.rows]
    other = PreparedSet(prepared.folder, prepared.manifest, rows)
    assert LatentDataset(other).sizes == [(3, 8, 8), (3, 8, 6)]
    other.arrays = lambda key, names=None: {"points": torch.zeros(1)}  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"holds no latents.*--model FOLDER"):
        LatentDataset(other)
    with pytest.raises(InputError, match="has no clip of the split test"):
        LatentDataset(prepared, "test")
    with pytest.raises(SettingsError, match="share from 0 to 1"):
        Prefix(1.5)


def test_the_fingerprint_follows_the_shards(prepared: PreparedSet) -> None:
    before = LatentDataset(prepared).fingerprint
    assert LatentDataset(PreparedSet.open(prepared.folder)).fingerprint == before
    shards = (replace(prepared.manifest.shards[0], sha256="0" * 64), *prepared.manifest.shards[1:])
    manifest = replace(prepared.manifest, shards=shards)
    assert LatentDataset(PreparedSet(prepared.folder, manifest, prepared.rows)).fingerprint != before
