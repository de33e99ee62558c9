"""The embedded model's autoencoder as a whole, on a real face."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fantasytalking.autoencoder import Beginning, MeshAutoencoder, Reference, VideoAutoencoder, from_uint8, to_uint8
from fantasytalking.autoencoder.lids import draw_blinks, lid_opening
from fantasytalking.autoencoder.mesh_codec import LIDS
from fantasytalking.errors import FaceError
from fantasytalking.perception.faces import detect_faces
from fantasytalking.perception.landmarks import LIPS_OUTER, face_mesh, mouth_opening
from fantasytalking.perception.mesh_points import LEFT_EYE, RIGHT_EYE
from tests.pipeline.tiny_pipeline import EXAMPLE, portrait
from tests.training.synthetic import codec, own_mesh


@cache
def autoencoder() -> MeshAutoencoder:
    """With a codec fitted to synthetic tracks and an untrained painter; not to be changed."""
    torch.manual_seed(0)
    fitted = codec()
    made = MeshAutoencoder(fitted.coefficients, fitted.height, fitted.width, painter_widths=(8, 8, 8)).eval()
    made.codec.load_state_dict(fitted.state_dict())
    return made


def motion(frames: int = 9, seed: int = 0) -> torch.Tensor:
    """Latents [1, 16, f, h, w] of a motion as in training that begins with the portrait and opens its mouth further."""
    fitted = codec()
    time = torch.linspace(0, 1, frames)[:, None]
    std = torch.cat([fitted.coefficient_std, 0.5 * fitted.pose_std])
    direction = torch.randn(len(std), generator=torch.Generator().manual_seed(seed)).clamp(-1.2, 1.2)
    direction[-LIDS:] = 0
    change = direction * std
    change[: fitted.coefficients] += 0.1 * fitted.opening_direction
    return fitted.to_latents((fitted.still(torch.from_numpy(own_mesh())) + time * change)[None])


def still(latent_frames: int = 2) -> torch.Tensor:
    """Latents [1, 16, f, h, w] of the portrait as it is."""
    fitted = codec()
    numbers = fitted.still(torch.from_numpy(own_mesh()))
    return fitted.to_latents(numbers.expand(1, 4 * latent_frames - 3, -1))


def reference(pixels: np.ndarray | None = None) -> Reference:
    return Reference(from_uint8(portrait() if pixels is None else pixels)[None])


def test_it_answers_the_interface_of_the_pipeline() -> None:
    made: VideoAutoencoder = autoencoder()
    assert made.latent_shape(17, 512, 300) == (16, 5, 6, 4)
    assert made.latent_channels == 16
    assert made.strides.time == 4


def test_the_portraits_own_expression_decodes_to_the_still_portrait() -> None:
    video = autoencoder().decode(still(), reference())
    assert video.shape == (1, 3, 5, 192, 192)
    apart = np.abs(to_uint8(video[0].movedim(1, 0)).astype(int) - portrait().astype(int))
    # the painter's crop is another raster, so the mouth of even an untrained one is a little softer
    low, high = own_mesh()[list(LIPS_OUTER), :2].min(0) - 20, own_mesh()[list(LIPS_OUTER), :2].max(0) + 20
    mouth = np.zeros((192, 192), bool)
    mouth[int(low[1]) : int(high[1]), int(low[0]) : int(high[0])] = True
    assert apart[:, ~mouth].max() <= 1
    assert apart[:, mouth].mean() < 1


@pytest.mark.parametrize("size", [(160, 161), (191, 133)])
def test_frames_have_the_portraits_own_odd_size(size: tuple[int, int]) -> None:
    height, width = size
    pixels = np.ascontiguousarray(portrait()[:height, 30 : 30 + width])
    frames = list(autoencoder().decode_frames(motion(5), reference(pixels)))
    assert [f.shape for f in frames] == [(height, width, 3)] * 5
    assert frames[0].dtype == np.uint8
    assert np.abs(frames[-1].astype(int) - pixels).max() > 20


def test_encoding_a_decoded_video_gives_back_its_motion() -> None:
    latents = motion(13)
    video = autoencoder().decode(latents, reference())
    back = autoencoder().encode(video, reference())
    assert back.shape == latents.shape
    for part in (slice(0, 8), slice(8, 16)):  # expression, head
        a, b = latents[:, part].flatten(), back[:, part].flatten()
        assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.65


def test_a_batch_is_decoded_sample_by_sample() -> None:
    latents = torch.cat([motion(5, 0), motion(5, 1)])
    images = torch.cat([reference().images] * 2)
    both = autoencoder().decode(latents, Reference(images))
    assert torch.equal(both[1:], autoencoder().decode(latents[1:], reference()))


def test_zero_latents_begin_with_the_photo_and_close_its_lips() -> None:
    frames = list(autoencoder().decode_frames(torch.zeros(1, 16, 6, 6, 4), reference()))
    assert np.abs(frames[0].astype(int) - portrait()).mean() < 0.1
    opening = [mouth_opening(face_mesh(frame).points) for frame in (portrait(), frames[0], frames[-1])]
    assert abs(opening[1] - opening[0]) < 0.1 * opening[0]
    assert opening[2] < 0.4 * opening[0]


def test_the_condition_is_the_mask_the_portraits_shape_over_time_and_its_own_expression_in_the_first_frame() -> None:
    made = autoencoder()
    condition = made.condition(reference(), 9)
    assert condition.shape == (1, 20, 3, 6, 4)
    assert condition[:, :4, 0].min() == 1
    assert condition[:, :4, 1:].abs().max() == 0
    shape = made.codec.shape_latents(made.codec.shape_cells_of(torch.from_numpy(own_mesh())))
    assert torch.allclose(condition[0, 4:, 1:], shape.expand(-1, 2, -1, -1), atol=1e-4)
    assert torch.allclose(condition[0, 4:, 0] - shape[:, 0], still()[0, :, 0], atol=1e-3)


def test_a_chosen_face_is_the_one_that_moves() -> None:
    two = np.concatenate([portrait(), portrait()], 1)
    faces = sorted(detect_faces(two), key=lambda face: face.box[0])
    assert len(faces) == 2
    for chosen, face in enumerate(faces):
        given = Reference(from_uint8(two)[None], (face,))
        *_, last = autoencoder().decode_frames(motion(5), given)
        changed = (np.abs(last.astype(int) - two).max(-1) > 20).mean(0)
        halves = changed[:192].sum(), changed[192:].sum()
        assert halves[chosen] > 5 * halves[1 - chosen]


def test_motion_beyond_what_a_photo_can_show_is_held_back() -> None:
    made = autoencoder()
    frames = list(made.decode_frames(20 * motion(5), reference()))
    assert len(frames) == 5
    parameters = made.limited(made.codec.from_latents(20 * motion(5))[0])
    k = made.config.coefficients
    assert parameters[:, k : k + 3].abs().max() <= made.config.max_turn
    assert (parameters[:, :k].abs() <= made.config.max_deviations * made.codec.coefficient_std + 1e-6).all()


def test_a_picture_without_a_face_is_refused() -> None:
    grey = np.full((96, 96, 3), 128, np.uint8)
    with pytest.raises(FaceError, match="No face"):
        autoencoder().condition(reference(grey), 5)


def test_saving_and_loading_changes_nothing(tmp_path: Path) -> None:
    made = autoencoder()
    made.save_pretrained(tmp_path)
    loaded = MeshAutoencoder.from_pretrained(tmp_path)
    assert loaded.config.coefficients == 10
    assert tuple(loaded.config.painter_widths) == (8, 8, 8)
    state = loaded.state_dict()
    assert state.keys() == made.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in made.state_dict().items())


def test_in_half_precision_only_the_painter_loses_digits(tmp_path: Path) -> None:
    made = autoencoder()
    made.save_pretrained(tmp_path)
    half = MeshAutoencoder.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert {b.dtype for b in half.codec.buffers()} == {torch.float32}
    full = list(made.decode_frames(motion(5), reference()))
    for a, b in zip(full, half.decode_frames(motion(5), reference()), strict=True):
        assert np.abs(a.astype(int) - b).mean() < 1


def test_pixels_survive_the_way_to_floats_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert np.array_equal(to_uint8(from_uint8(pixels)), pixels)
    assert from_uint8(pixels).min() == -1
    assert from_uint8(pixels).max() == 1


def test_the_documented_example_moves_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (EXAMPLE.parent / "model_index.json").is_file():
        pytest.skip("the embedded model's weights are not there")
    page = (Path(__file__).parents[2] / "docs" / "embedded-model.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    (tmp_path / "examples").mkdir()
    Image.fromarray(portrait()).save(tmp_path / "examples" / "portrait.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "embedded-model.md", "exec"), names)
    frames = names["frames"]
    assert len(frames) == 5
    first, last = (face_mesh(frames[i]).points for i in (0, -1))
    assert 0.5 < float((last - first)[:, 0].mean()) < 4.0


def test_blinks_are_drawn_into_what_was_sampled() -> None:
    """A seed repeats them; they take the place of what the transformer made of the lids, and nothing else changes."""
    made, sampled = autoencoder(), motion(201)
    one, two, other = (made.enliven(sampled, seed, 0.5, 0) for seed in (3, 3, 4))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert one.shape == sampled.shape and one.dtype == sampled.dtype
    numbers, before = (made.codec.from_latents(latents, noise=0.0)[0] for latents in (one, sampled))
    blinks = torch.from_numpy(draw_blinks(201, 25.0, 3, 0.5))[:, None].expand(-1, LIDS)
    assert blinks.max() > 0.99
    assert torch.allclose(numbers[:, -LIDS:], blinks, atol=2e-3)
    std = torch.cat([made.codec.coefficient_std, made.codec.pose_std[:-LIDS]])
    assert ((numbers - before)[:, :-LIDS] / std).abs().max() < 2e-2
    half = made.enliven(sampled.to(torch.bfloat16), 3, 0.5, 0)
    assert half.dtype == torch.bfloat16 and torch.isfinite(half).all()


def test_frames_that_a_continued_video_begins_with_keep_their_lids() -> None:
    made, sampled = autoencoder(), motion(101)
    seed = next(s for s in range(99) if draw_blinks(101, 25.0, s, 0.5)[:21].max() > 0.5)
    lively, new = (made.enliven(sampled, seed, 0.5, given) for given in (6, 0))
    assert torch.equal(lively[:, :, :6], sampled[:, :, :6]) and not torch.equal(new[:, :, :6], sampled[:, :, :6])
    assert torch.equal(lively[:, :, 6:], new[:, :, 6:])


def test_a_drawn_blink_closes_both_eyes_of_the_video_and_the_first_frame_is_the_photo() -> None:
    made, big = autoencoder(), portrait(384)
    mesh = face_mesh(big).points
    seed = next(s for s in range(99) if draw_blinks(29, 25.0, s, 0.5)[8:20].max() > 0.99)
    as_it_is = made.codec.to_latents(made.codec.still(torch.from_numpy(mesh)).expand(1, 29, -1))
    frames = list(made.decode_frames(made.enliven(as_it_is, seed, 0.5, 0), reference(big)))
    assert np.abs(frames[0].astype(int) - big).mean() < 0.1
    shut = frames[int(draw_blinks(29, 25.0, seed, 0.5).argmax())]
    # The mesh network sees lashes as a narrow gap; in the picture there is skin where the iris was.
    opening = [lid_opening(torch.from_numpy(face_mesh(frame).points)) for frame in (frames[0], shut)]
    assert (opening[1] < 0.75 * opening[0]).all()
    for outline in (RIGHT_EYE, LEFT_EYE):
        x, y = np.round(mesh[list(outline), :2].mean(0)).astype(int)
        iris, lid, cheek = (
            big[y - 1 : y + 1, x - 2 : x + 3],
            shut[y - 1 : y + 1, x - 2 : x + 3],
            big[y + 20, x - 2 : x + 3],
        )
        assert iris.mean() < lid.mean() - 30 and lid.mean() > 0.6 * cheek.mean()


def test_a_video_that_is_continued_shows_its_first_frames_to_the_transformer_and_begins_with_them() -> None:
    made = autoencoder()
    before = motion(9)
    video = made.decode(before, reference())
    condition = made.condition(reference(), 17, Beginning(video, made.encode(video, reference())))
    assert condition[:, :4, :3].min() == 1
    assert condition[:, :4, 3:].abs().max() == 0
    shape = made.codec.shape_latents(made.codec.shape_cells_of(torch.from_numpy(own_mesh())))
    assert torch.allclose(condition[0, 4:, 3:], shape.expand(-1, 2, -1, -1), atol=1e-4)
    given = condition[0, 4:, :3] - shape
    assert torch.corrcoef(torch.stack([given.flatten(), before[0].flatten()]))[0, 1] > 0.65
    latents = torch.cat([before, before[:, :, -1:]], 2)
    first, continued = (next(made.decode_frames(latents, reference(), c)) for c in (False, True))
    still = portrait().astype(int)
    assert np.abs(first - still).mean() < np.abs(continued - still).mean()
