"""Checks an mp4 file with PyAV alone: H.264 and AAC, frames that change, and audio that is as long as the video to within a frame."""

import itertools
import sys

import av
import numpy as np


def check(path: str) -> str:
    """Decode the whole file and return a one-line summary.

    Raises:
        AssertionError: A property differs from what is expected; the message says which.
    """
    with av.open(path) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.codec_context.name == "h264", f"video codec is {video.codec_context.name}, not h264"
        assert audio.codec_context.name == "aac", f"audio codec is {audio.codec_context.name}, not aac"
        assert video.average_rate is not None, "the video has no frame rate"
        fps, rate = float(video.average_rate), audio.codec_context.sample_rate
        pictures, loudest, samples = [], 0.0, 0
        for frame in container.decode(video, audio):
            if isinstance(frame, av.VideoFrame):
                pictures.append(frame.to_ndarray(format="gray").astype(np.float32))
            elif isinstance(frame, av.AudioFrame):
                samples += frame.samples
                loudest = max(loudest, float(np.abs(frame.to_ndarray().astype(np.float32)).max()))
    picture_seconds, sound_seconds = len(pictures) / fps, samples / rate
    # An AAC packet holds 1,024 samples, so the decoded sound may end up to one packet after the last frame.
    tolerance = 1 / fps + 1024 / rate
    assert len(pictures) > fps, f"only {len(pictures)} frames"
    assert abs(picture_seconds - sound_seconds) <= tolerance, (
        f"{picture_seconds:.3f} s of video, {sound_seconds:.3f} s of audio"
    )
    assert loudest > 0.01, "the audio is silent"
    motion = float(np.mean([np.abs(a - b).mean() for a, b in itertools.pairwise(pictures)]))
    assert motion > 0.01, f"the video does not move (mean change between frames is {motion:.4f} of 255)"
    height, width = pictures[0].shape
    seconds = f"{picture_seconds:.2f} s of video, {sound_seconds:.2f} s of audio"
    return f"{path}: {width}x{height}, {len(pictures)} frames at {fps:g} fps, {seconds}"


if __name__ == "__main__":
    print(check(sys.argv[1]))
