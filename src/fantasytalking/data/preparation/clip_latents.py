"""Latents and conditions of windows of a clip, precomputed for training a model with a fixed video autoencoder (Wan's).

Every array comes from the functions that the pipeline itself encodes with, so training and inference see the same. Letters: F frames
of a clip, H x W pixels, n windows, f latent frames, h x w latent size, C latent channels, t speech tokens, l text tokens, d widths.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fantasytalking.autoencoder import Reference, WanAutoencoder, from_uint8
from fantasytalking.data.lip_mask import lip_mask_to_latents
from fantasytalking.data.preparation.measure_motion import BodyTrack, raw_motion
from fantasytalking.errors import CheckpointError, SettingsError, VideoError
from fantasytalking.geometry import Strides, fit_size
from fantasytalking.media.audio import Audio, fit_length
from fantasytalking.media.loudness import normalise_loudness
from fantasytalking.pipeline.encoders import encode_image, encode_speech, encode_text
from fantasytalking.pipeline.inputs import SPEECH_RATE, Speech
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline

__all__ = ["LatentEncoder", "window_starts"]


def window_starts(frames: int, window: int, most: int) -> list[int]:
    """First frames of windows that are spread evenly over a clip and overlap by about half at most.

    Args:
        frames: Frames F of the clip, at least `window`.
        window: Frames of a window.
        most: Maximum number of windows.
    """
    room = frames - window
    count = min(most, 1 + room // max(1, window // 2))
    return [round(start) for start in np.linspace(0, room, count)]


class LatentEncoder:
    """Encodes windows of clips.

    Args:
        pipeline: A model with Wan's autoencoder; its transformer is not needed.
        window_frames: Frames of a window, 4n+1.
        max_windows: Maximum number of windows per clip, at least 1.

    Raises:
        CheckpointError: The model's autoencoder is not a fixed one.
        SettingsError: `window_frames` is not 4n+1, or `max_windows` is less than 1.
    """

    def __init__(self, pipeline: FantasyTalkingPipeline, window_frames: int = 81, max_windows: int = 2) -> None:
        if not isinstance(pipeline.autoencoder, WanAutoencoder):
            raise CheckpointError(
                f"The model's autoencoder is a {type(pipeline.vae).__name__}, which is fitted to the training set, so no latents can be "
                "precomputed; give a model with Wan's, or prepare without latents (--latents off)."
            )
        if max_windows < 1:
            raise SettingsError(f"A clip has at least 1 window of latents, but {max_windows} were asked for.")
        Strides().latent_frames(window_frames)
        self.pipeline, self.window_frames, self.max_windows = pipeline, window_frames, max_windows
        self.autoencoder, self.encoders = pipeline.autoencoder, pipeline.encoders
        self._text: tuple[str, Tensor] | None = None

    @torch.no_grad()
    def encode(
        self,
        frames: NDArray[np.uint8],
        samples: NDArray[np.float32],
        fps: float,
        lip_masks: NDArray[np.generic],
        points: NDArray[np.float32],
        scores: NDArray[np.float32],
        joints: BodyTrack,
        caption: str = "",
    ) -> dict[str, Tensor]:
        """Encode all windows of a clip.

        Args:
            frames: Frames uint8 [F, H, W, 3], F at least 1.
            samples: Sound float32 [n], 16 kHz mono, in sync with the frames.
            fps: Frames per second, the model's own rate.
            lip_masks: Lip masks [F, H, W], 0..1 or bool.
            points: Mesh [F, 468, 3] in pixels.
            scores: Face presence [F], 0..1.
            joints: Joints of the body, in pixels.
            caption: Prompt for the text encoder.

        Returns:
            window_starts [n] int32, window_frames [n] int32, text [l, d] bf16, and for each window i: latents.i [C, f, h, w] bf16,
            condition.i [4 + C, f, h, w] bf16, lip_mask.i [1, f, h, w] f16, speech.i [t, d] f16, image.i [li, d] f16 where the model
            has an image encoder, motion.i [2] f32, raw.

        Raises:
            VideoError: There is no frame, or the numbers of frames, masks, meshes and joints differ.
        """
        count = len(frames)
        if not count or not count == len(lip_masks) == len(points) == len(scores) == len(joints.joints):
            lengths = [len(x) for x in (frames, lip_masks, points, scores, joints.joints)]
            raise VideoError(
                f"A clip has as many frames as lip masks, meshes, scores and joints, at least 1, but has {lengths}."
            )
        window = min(
            self.window_frames, (count - 1) // self.autoencoder.strides.time * self.autoencoder.strides.time + 1
        )
        starts = window_starts(count, window, self.max_windows)
        made: dict[str, Tensor] = {
            "window_starts": torch.tensor(starts, dtype=torch.int32),
            "window_frames": torch.full((len(starts),), window, dtype=torch.int32),
            "text": self._encode_text(caption),
        }
        for i, start in enumerate(starts):
            part = slice(start, start + window)
            track = BodyTrack(joints.joints[part], joints.shoulders, joints.upper)
            motion, _ = raw_motion(points[part], scores[part], track, *frames.shape[1:3])
            arrays = self._pictures(frames[part], lip_masks[part])
            arrays["speech"] = self._speech(samples, start, window, fps).half()
            arrays["motion"] = torch.from_numpy(motion)
            made |= {f"{name}.{i}": array.cpu().contiguous() for name, array in arrays.items()}
        return made

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels of the video that the model generates from a picture of this size."""
        wide, high = fit_size(width, height, self.pipeline.rules.longest_side or max(height, width))
        return high, wide

    def _pictures(self, frames: NDArray[np.uint8], lip_masks: NDArray[np.generic]) -> dict[str, Tensor]:
        high, wide = self.size(*frames.shape[1:3])
        if (high, wide) != frames.shape[1:3]:
            # the same filter as `inputs.load_portrait`
            shrunk = [Image.fromarray(frame).resize((wide, high), Image.Resampling.LANCZOS) for frame in frames]
            frames = np.stack([np.asarray(picture) for picture in shrunk])
        device = self.encoders.device
        reference = Reference(from_uint8(frames[0])[None].to(device))
        video = from_uint8(frames).movedim(0, 1)[None].to(device)
        latents = self.autoencoder.encode(video, reference)[0]
        condition = self.autoencoder.condition(reference, len(frames))[0]
        mask = lip_mask_to_latents(torch.from_numpy(lip_masks.astype(np.float32))[None], *latents.shape[1:])[0]
        made = {"latents": latents.bfloat16(), "condition": condition.bfloat16(), "lip_mask": mask.half()}
        image = encode_image(self.encoders, frames[0])
        return made if image is None else made | {"image": image[0].half()}

    def _speech(self, samples: NDArray[np.float32], start: int, frames: int, fps: float) -> Tensor:
        """Speech features of exactly the window's time, as `inputs.load_speech` and `encoders.encode_speech` give them for a recording."""
        rules = self.pipeline.rules
        first, length = round(start / fps * SPEECH_RATE), round(frames / fps * SPEECH_RATE)
        heard = samples[first : first + length]
        if rules.speech_level is not None:
            heard = normalise_loudness(heard, SPEECH_RATE, target=rules.speech_level)
        padded = fit_length(heard, length)
        speech = Speech(padded, Audio(padded, SPEECH_RATE), fps, frames, frames)
        return encode_speech(self.encoders, speech, rules, 1.0, "clip").features[0]

    def _encode_text(self, caption: str) -> Tensor:
        """Embedding of a caption [l, d] bf16, without its zero padding."""
        if self._text is None or self._text[0] != caption:
            tokens = encode_text(self.encoders, caption)[0]
            used = tokens.abs().sum(1).nonzero()
            length = int(used.max()) + 1 if len(used) else 1
            self._text = caption, tokens[:length].bfloat16().cpu().contiguous()
        return self._text[1].clone()
