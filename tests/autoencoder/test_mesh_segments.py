"""Segments of the embedded model's videos: their motion is that of one clip which is cut where it rests."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from fantasytalking.autoencoder import Reference, from_uint8
from fantasytalking.autoencoder.mesh_segments import MeshSegmentDecoder
from fantasytalking.perception.face_measures import head_angles
from tests.pipeline.tiny_pipeline import mesh_autoencoder, portrait


class Recorder:
    """Stands where the renderer does, and gives the meshes that it would draw."""

    window = (0, 0)

    def frames(self, moved: NDArray[np.float32], first: int, end: int, aside: bool) -> Iterator[NDArray[np.float32]]:
        yield from moved[first:end]


def decoder() -> MeshSegmentDecoder:
    made = mesh_autoencoder()
    found = made.segment_decoder(Reference(from_uint8(portrait(160))[None]), 9, continued=False, aside=False)
    found._renderer = Recorder()  # type: ignore[assignment]
    return found


def motion(frames: int) -> torch.Tensor:
    """Slow random motion that rests from frame 52 to 62, as latents [1, 16, f, h, w]."""
    codec = mesh_autoencoder().codec
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(frames, len(codec.still(torch.zeros(468, 3) + codec.template)), generator=generator)
    steps[52:62] = 0
    return codec.to_latents(0.01 * steps.cumsum(0)[None])


def test_segments_give_the_meshes_of_one_clip_and_go_on_from_a_stored_state() -> None:
    whole, codec = motion(101), mesh_autoencoder().codec
    expected = np.stack(list(decoder().decode(whole, 0, True)))
    parameters = codec.from_latents(whole, noise=0.0)[0]
    made, found = decoder(), []
    found += list(made.decode(codec.to_latents(parameters[None, :57]), 0, False))
    given = codec.from_latents(made.beginning().latents, noise=0.0)[0]
    assert torch.allclose(given, parameters[48:57], atol=1e-3)
    again = decoder()
    again.restore({name: value.clone() for name, value in made.state().items()})
    rest = codec.to_latents(parameters[None, 48:])
    after = list(made.decode(rest, 9, True))
    assert all(np.array_equal(a, b) for a, b in zip(after, again.decode(rest, 9, True), strict=True))
    found += after
    assert len(found) == len(expected) == 101 and len(after) == 101 - 57 + 16
    assert np.abs(np.stack(found) - expected).max() < 0.02


def test_the_head_of_later_segments_comes_back_to_the_portrait_and_older_states_can_be_restored() -> None:
    codec = mesh_autoencoder().codec
    still = codec.still(torch.zeros(468, 3) + codec.template)
    parameters = still.repeat(400, 1)
    parameters[40:, -8] = 0.2  # turns the head about one axis
    made = decoder()
    first = list(made.decode(codec.to_latents(parameters[None, :201]), 0, False))
    stored = made.state()
    later = list(made.decode(codec.to_latents(parameters[None, 192:393]), 9, True))
    pitch = head_angles(np.stack([*first, *later]))[:, 1]
    assert abs(pitch[30] - pitch[0]) < 0.1 and abs(pitch[60] - pitch[0]) > 4
    assert abs(pitch[-1] - pitch[0]) < 0.5
    older = decoder()
    older.restore({name: value for name, value in stored.items() if name not in ("join", "drift")})
    assert len(list(older.decode(codec.to_latents(parameters[None, 192:393]), 9, True))) == len(later)
