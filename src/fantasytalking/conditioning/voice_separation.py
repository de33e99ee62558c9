"""The voice alone, taken out of a recording with music or noise by the package demucs.

Its network, Hybrid Transformer Demucs (Rouard et al. 2023, arXiv 2211.08553), was trained on songs: the source that it calls vocals is the
voice. It is read from the cache of the Hugging Face hub, or from a folder, and never downloaded here.

Letters: n samples, c channels.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fantasytalking.errors import AudioError, CheckpointError, MissingDependencyError
from fantasytalking.media.audio import Audio, is_silent
from fantasytalking.media.resampling import StreamResampler
from fantasytalking.media.spooled_sound import Spool, pieces_of
from fantasytalking.system.digests import file_sha256, verified_digest

__all__ = ["FOLDER_VARIABLE", "find_separator", "load_separator", "separated_voice"]

Samples = npt.NDArray[np.float32]

NAME, REPOSITORY = "htdemucs", "adefossez/HTDemucs"
FOLDER_VARIABLE = "FANTASYTALKING_SEPARATOR"
"""Environment variable with a folder that holds the network, in place of the cache of the hub."""
BLOCK_SECONDS, SHARED_SECONDS = 40.0, 0.5
"""The sound is separated in blocks, so that memory does not grow with it; neighbours are cross-faded over what they share."""
_CLASSES = ("demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs")
_FETCH = f"run 'hf download {REPOSITORY}' once, or name a folder with {NAME}.yaml and its safetensors files in {FOLDER_VARIABLE}"


def find_separator() -> Path:
    """The description of the network on this machine, a yaml file beside its weights.

    Raises:
        MissingDependencyError: The package demucs is not installed.
        CheckpointError: The network is not on this machine.
    """
    if find_spec("demucs") is None:
        raise MissingDependencyError(
            "separate_speech takes the voice out of the recording with the package demucs, which is not installed; install it with: "
            'pip install "fantasytalking[separate]", or leave separate_speech off.'
        )
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        found = Path(folder) / f"{NAME}.yaml"
        if not found.is_file():
            raise CheckpointError(
                f"The folder '{folder}', which {FOLDER_VARIABLE} names, has no {NAME}.yaml for separate_speech; {_FETCH}."
            )
        return found
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(REPOSITORY, f"{NAME}.yaml")
    if not isinstance(cached, str):
        raise CheckpointError(f"The network of separate_speech is not on this machine; {_FETCH}.")
    return Path(cached)


def load_separator(description: Path) -> Any:
    """Load the network, on the CPU.

    Args:
        description: From `find_separator`.

    Raises:
        CheckpointError: A file is missing, damaged, or not such a network.
    """
    import yaml
    from demucs.apply import BagOfModels
    from demucs.hf import load_safetensors_model

    try:
        bag = yaml.safe_load(description.read_text(encoding="utf-8"))
        names = [str(name) for name in bag["models"]]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise CheckpointError(f"'{description}' does not list the parts of a network of demucs; {_FETCH}.") from error
    models = []
    for name in names:
        path = _weights(description.parent, name)
        _check_weights(path)
        try:
            models.append(load_safetensors_model(path))
        except Exception as error:
            # A file with other arguments or tensors makes the network's constructor raise errors of many kinds.
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise CheckpointError(f"'{path}' is not a network that this demucs can load: {reason}") from error
    network = BagOfModels(models, bag.get("weights"), bag.get("segment")).eval()
    if "vocals" not in network.sources:
        raise CheckpointError(
            f"'{description}' is of a network without vocals ({', '.join(network.sources)}); {_FETCH}."
        )
    return network


def _weights(folder: Path, name: str) -> Path:
    """File of one part: its name, and perhaps the first digits of its SHA-256 behind a hyphen."""
    found = [folder / f"{name}.safetensors", *sorted(folder.glob(f"{name}-*.safetensors"))]
    for path in found:
        if path.is_file():
            return path
    raise CheckpointError(f"'{folder}' has no {name}.safetensors; {_FETCH}.")


def _check_weights(path: Path) -> None:
    """Check that a file is what it was published as, and that loading it runs nothing but one of demucs's networks."""
    from safetensors import SafetensorError, safe_open

    published = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    stored = path.resolve().name
    if published:
        verified_digest(path, published[1])
    elif re.fullmatch(r"[0-9a-f]{64}", stored):
        # The hub's cache keeps a large file under its SHA-256.
        if file_sha256(path) != stored:
            raise CheckpointError(f"'{path}' is damaged: its SHA-256 is not {stored}; delete it, and {_FETCH}.")
    else:
        verified_digest(path, None)
    try:
        with safe_open(str(path), framework="pt") as file:
            told = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"'{path}' is not a readable safetensors file ({error}); {_FETCH}.") from error
    # demucs imports and calls whatever class the file names.
    if told.get("klass") not in _CLASSES or "structure" in told:
        raise CheckpointError(
            f"'{path}' holds {told.get('klass', 'no class')}, and separate_speech takes {' and '.join(_CLASSES)}, not quantised; {_FETCH}."
        )


def separated_voice(sound: Audio, network: Any) -> tuple[Audio, float]:
    """The voice of a recording.

    Args:
        sound: The recording.
        network: From `load_separator`.

    Returns:
        The voice, as long and of the same rate, and its share of the recording's energy.

    Raises:
        AudioError: There is no voice in it.
    """
    mix = _resampled(sound.samples, sound.sample_rate, network.samplerate)
    voice = Spool()
    back = StreamResampler(sound.sample_rate)
    heard = 0.0
    for piece in _voice_pieces(mix, network):
        heard += float(np.square(piece, dtype=np.float64).sum())
        voice.push(back.push(piece, network.samplerate))
    voice.push(back.finish())
    voice.push(np.zeros(max(0, len(sound.samples) - voice.count), np.float32))
    samples = voice.samples()[: len(sound.samples)]
    if is_silent(samples, sound.sample_rate):
        raise AudioError(
            "There is no voice left in the recording after separate_speech took out the rest; leave separate_speech off, or give speech."
        )
    whole = sum(float(np.square(piece, dtype=np.float64).sum()) for piece in pieces_of(mix))
    return Audio(samples, sound.sample_rate), heard / max(whole, 1e-12)


def _resampled(samples: Samples, rate: int, wanted: int) -> Samples:
    resampler, spool = StreamResampler(wanted), Spool()
    for piece in pieces_of(samples):
        spool.push(resampler.push(piece, rate))
    spool.push(resampler.finish())
    return spool.samples()


def _voice_pieces(mix: Samples, network: Any) -> Iterator[Samples]:
    """Voice [n] of a mix [n] at the network's rate, in pieces."""
    length, shared = (round(seconds * network.samplerate) for seconds in (BLOCK_SECONDS, SHARED_SECONDS))
    rise = np.linspace(0, 1, shared, dtype=np.float32)
    mean, deviation = _level(mix)
    start, before = 0, np.zeros(0, np.float32)
    while start < len(mix):
        block = (np.asarray(mix[start : start + length]) - mean) / (deviation + 1e-8)
        voice = _vocals(block, network) * (deviation + 1e-8)
        over = min(len(before), len(voice))
        voice[:over] = voice[:over] * rise[:over] + before[:over] * (1 - rise[:over])
        is_last = start + length >= len(mix)
        kept = len(voice) if is_last else length - shared
        before = voice[kept:]
        yield voice[:kept]
        start += len(voice) if is_last else kept


def _level(mix: Samples) -> tuple[float, float]:
    """Mean and standard deviation, by which demucs normalises what it is given."""
    total = sum(float(piece.sum(dtype=np.float64)) for piece in pieces_of(mix))
    squares = sum(float(np.square(piece, dtype=np.float64).sum()) for piece in pieces_of(mix))
    mean = total / max(1, len(mix))
    return mean, float(np.sqrt(max(0.0, squares / max(1, len(mix)) - mean**2)))


def _vocals(block: Samples, network: Any) -> Samples:
    """Vocals [n] of a normalised block [n], which all channels of the network get."""
    import torch
    from demucs.apply import apply_model

    mix = torch.from_numpy(np.asarray(block, np.float32)).expand(1, network.audio_channels, -1)
    state = random.getstate()
    with torch.no_grad():
        # Without shifts, which demucs draws at random.
        parts = apply_model(network, mix, shifts=0, split=True, overlap=0.25, device="cpu")
    random.setstate(state)
    voice = parts[0, network.sources.index("vocals")].mean(0)
    return np.array(voice.numpy(), np.float32)
