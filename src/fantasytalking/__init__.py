"""A portrait talks: image and speech to video with FantasyTalking (arXiv 2504.04842).

The names below are the public ones. They are imported when they are first used, so that `import fantasytalking` and
the command line's help need no framework.
"""

from __future__ import annotations

import logging
from collections import ChainMap
from typing import TYPE_CHECKING

from fantasytalking.system.lazy_exports import lazy_exports

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "fantasytalking.serving.async_client",
    "Audio": "fantasytalking.media.audio",
    "Client": "fantasytalking.serving.client",
    "Conditions": "fantasytalking.conditioning.conditions",
    "FantasyTalkingError": "fantasytalking.errors",
    "FantasyTalkingPipeline": "fantasytalking.pipeline.pipeline",
    "FantasyTalkingTransformer3DModel": "fantasytalking.transformer.model",
    "GenerationSettings": "fantasytalking.pipeline.settings",
    "MeshAutoencoder": "fantasytalking.autoencoder.mesh_autoencoder",
    "TalkingVideo": "fantasytalking.pipeline.talking_video",
    "Verification": "fantasytalking.verification",
    "verify": "fantasytalking.verification",
}
# Not part of the interface: where `model_index.json` names a class of a library that does not name it itself.
_BORROWED = {"WhisperEncoder": "transformers.models.whisper.modeling_whisper"}

__all__ = [*sorted(_HOMES), "__version__"]

if TYPE_CHECKING:
    from fantasytalking.autoencoder.mesh_autoencoder import MeshAutoencoder as MeshAutoencoder
    from fantasytalking.conditioning.conditions import Conditions as Conditions
    from fantasytalking.errors import FantasyTalkingError as FantasyTalkingError
    from fantasytalking.media.audio import Audio as Audio
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline as FantasyTalkingPipeline
    from fantasytalking.pipeline.settings import GenerationSettings as GenerationSettings
    from fantasytalking.pipeline.talking_video import TalkingVideo as TalkingVideo
    from fantasytalking.serving.async_client import AsyncClient as AsyncClient
    from fantasytalking.serving.client import Client as Client
    from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel as FantasyTalkingTransformer3DModel
    from fantasytalking.verification import Verification as Verification
    from fantasytalking.verification import verify as verify

# diffusers imports it, and at that it warns of what it lacks on some CPUs, to people who never asked for it.
if logging.getLogger("bitsandbytes").level == logging.NOTSET:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

__getattr__, __dir__ = lazy_exports(__name__, ChainMap(_HOMES, _BORROWED))
