"""The exception tree: every bad input ends in one of these, with one clear sentence.

```
FantasyTalkingError                 everything this library raises on purpose
├── InputError                      what the caller gave cannot be used (also a ValueError)
│   ├── ImageError                  the portrait: not an image, too small, unreadable
│   ├── FaceError                   the face in it: none found, too small
│   ├── AudioError                  the speech: no sound, silent, corrupt, too short, too long
│   ├── VideoError                  a video that is read: no picture, corrupt, empty
│   ├── SettingsError               a setting: unknown name, outside its range
│   └── OutputError                 the file to write: exists, folder missing or full, not writable
├── CheckpointError                 weights: missing, unexpected or misshapen keys, unsafe pickles
├── MissingDependencyError          an optional package is needed and not installed (also an ImportError)
├── ServerError                     a service: not reachable, refuses the client, or failed
└── ResourceError                   the machine is too small for the request
    └── OutOfMemory                 memory or accelerator memory ran out
```

A message is one sentence that says what is wrong, what was given, what is accepted and what to do. The command line
prints the message and exits with `exit_code`.
"""

from __future__ import annotations

__all__ = [
    "AudioError",
    "CheckpointError",
    "FaceError",
    "FantasyTalkingError",
    "ImageError",
    "InputError",
    "MissingDependencyError",
    "OutOfMemory",
    "OutputError",
    "ResourceError",
    "ServerError",
    "SettingsError",
    "VideoError",
]


class FantasyTalkingError(Exception):
    """Base of all errors that this library raises on purpose.

    Attributes:
        exit_code: Exit status of the command line when this error ends it.
    """

    exit_code: int = 2


class InputError(FantasyTalkingError, ValueError):
    """Something the caller gave cannot be used."""


class ImageError(InputError):
    """The portrait cannot be read or is not usable as an image."""


class FaceError(InputError):
    """No usable face in an image, or the chosen face does not exist."""


class AudioError(InputError):
    """The speech cannot be read, is silent, too short or too long."""


class VideoError(InputError):
    """A video cannot be read or has no usable picture."""


class SettingsError(InputError):
    """A setting is unknown or outside its range."""


class OutputError(InputError):
    """The output cannot be written: it exists, its folder is missing, full or protected."""


class CheckpointError(FantasyTalkingError):
    """Weights do not fit: missing, unexpected or misshapen keys, or an unsafe file."""


class MissingDependencyError(FantasyTalkingError, ImportError):
    """An optional package is needed and not installed; the message names the extra to install."""


class ServerError(FantasyTalkingError):
    """A service cannot be reached, refuses the client, or failed at a job."""


class ResourceError(FantasyTalkingError):
    """The machine is too small for the request."""


class OutOfMemory(ResourceError):  # noqa: N818 - named as torch.OutOfMemoryError is shortened everywhere
    """Memory of the machine or of its accelerator ran out."""
