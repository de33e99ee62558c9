from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from generation import Generator, Speech
from make_speech import write_wav

from fantasytalking.errors import InputError
from fantasytalking.pipeline.continued_video import CONTINUED_FRAMES
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Speech:
    path = tmp_path_factory.mktemp("speech") / "said.wav"
    write_wav(path, speech(3.0).samples)
    return Speech(path, 0.5, 2.0)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generator]:
    folder = tmp_path_factory.mktemp("model")
    embedded_pipeline().save_pretrained(folder)
    with Generator(Namespace(tree=None, model=str(folder), scratch=None, threads=1)) as made:
        yield made


def test_a_video_of_another_process_comes_with_its_frames_and_meshes(generator: Generator, said: Speech) -> None:
    with generator.make(portrait(), said, unsound=True, seed=3, steps=1) as made:
        frames = made.frames()
        assert frames.shape[1:] == (192, 192, 3)
        assert len(frames) == pytest.approx(50, abs=1)
        assert made.frame_meshes is not None and made.frame_meshes.shape[1:] == (468, 3)
        assert made.unsound is not None and all(0 <= share <= 1 for share in made.unsound)
        assert made.settings["seed"] == 3
        files = made.pieces
    assert not any(file.exists() for file in files)


def test_a_long_video_is_made_in_pieces_that_do_not_overlap(generator: Generator, said: Speech) -> None:
    with generator.make(portrait(), said, piece_frames=33, seed=0, steps=1) as made:
        lengths = [len(piece) for piece in made.each_piece()]
        assert lengths[0] == 33
        assert all(length <= 33 - CONTINUED_FRAMES for length in lengths[1:])
        assert sum(lengths) == pytest.approx(50, abs=1)
        points, openings = made.track_with_eyes()
        assert points.shape == made.track().shape == (sum(lengths), 468, 3)
        assert openings.shape == (sum(lengths), 2) and (openings > 0).all()


def test_a_refusal_is_the_models_own_sentence_and_the_process_goes_on(generator: Generator, said: Speech) -> None:
    with (
        pytest.raises(InputError, match="No face was found"),
        generator.make(np.full((192, 192, 3), 127, np.uint8), said, seed=0, steps=1),
    ):
        pass
    with generator.make(portrait(), Speech(said.path, 0.0, 0.5), seed=0, steps=1) as made:
        assert len(made.frames())


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no checkout of this project"):
        Generator(Namespace(tree=tmp_path, model="embedded", scratch=None, threads=1))
