"""A long video written in parts, each a complete silent file, and joined without encoding the picture again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from av.packet import Packet
from av.video.stream import VideoStream

from fantasytalking.errors import OutputError, VideoError
from fantasytalking.media.audio import Audio
from fantasytalking.media.container import close_quietly, open_media, write_errors
from fantasytalking.media.sound_track import SoundTrack, checked_sound
from fantasytalking.media.spooled_sound import release_pages
from fantasytalking.media.video_writer import exact_rate, open_container
from fantasytalking.provenance.marks import Marks
from fantasytalking.provenance.signed_manifest import sign_file
from fantasytalking.system.files import atomic_path

__all__ = ["join_parts"]


def join_parts(
    parts: Sequence[tuple[Path, int]],
    path: str | os.PathLike[str],
    fps: float,
    audio: Audio,
    overwrite: bool = False,
    marks: Marks | None = None,
) -> Path:
    """Join parts to one video and add the sound; the file is complete or not there at all.

    Args:
        parts: Files that one `VideoWriter` after the other wrote with the same options and size, each with its number of frames.
        path: mp4, m4v, mov or mkv file to write.
        fps: Frames a second.
        audio: Sound from the first frame on, cut or continued with silence to the length of the picture.
        overwrite: Whether an existing file may be replaced.
        marks: What the video is marked with; its frames are marked in the parts already.

    Raises:
        OutputError: The file cannot be written, the disk is full, or a part has changed. Nothing is left behind.
    """
    rate, sound, target = exact_rate(fps), checked_sound(audio), Path(path)
    with atomic_path(target, overwrite) as temporary, contextlib.ExitStack() as stack:
        output = open_container(temporary, target, marks)
        stack.callback(close_quietly, output)
        picture: VideoStream | None = None
        track: SoundTrack | None = None
        done = 0
        for part, count in parts:
            with _opened(part) as source:
                if picture is None or track is None:
                    picture = output.add_stream_from_template(source)
                    track = SoundTrack(output)
                elif source.codec_context.extradata != picture.codec_context.extradata:
                    raise OutputError(
                        f"The part '{part}' was encoded by another encoder; delete its folder and begin anew."
                    )
                for packet in _moved(source, done / rate):
                    packet.stream = picture
                    with write_errors(target):
                        output.mux(packet)
            done += count
            with write_errors(target):
                # In pieces of a second, so that a long part needs no memory.
                for second in range(int((done - count) / rate) + 1, int(done / rate) + 1):
                    track.write_until(Fraction(second), sound)
                track.write_until(done / rate, sound)
            release_pages(sound.samples)
        if track is None:
            raise VideoError(f"There is no frame to write to '{target}'; give at least one.")
        with write_errors(target):
            track.finish()
            output.close()
        if marks is not None:
            sign_file(temporary, marks, target)
    return target


@contextlib.contextmanager
def _opened(part: Path) -> Iterator[VideoStream]:
    with open_media(part, "part of a video", OutputError) as container:
        yield container.streams.video[0]


def _moved(source: VideoStream, later: Fraction) -> Iterator[Packet[VideoStream]]:
    """Packets of a stream, shown so much later."""
    assert source.time_base is not None
    ticks = round(later / source.time_base)
    for packet in source.container.demux(source):  # type: ignore[attr-defined]  # only inputs have it
        if packet.dts is None:
            continue
        packet.dts += ticks
        if packet.pts is not None:
            packet.pts += ticks
        yield packet
