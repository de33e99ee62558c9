"""Read, convert and write the weights of Wan2.1-I2V and of the FantasyTalking adapter, in every published layout."""

from fantasytalking.checkpoints.adapter_layouts import AdapterLayout, convert_adapter, load_adapter, save_adapter
from fantasytalking.checkpoints.backbone import load_backbone
from fantasytalking.checkpoints.load_models import load_image_encoder, load_text_encoder, load_transformer, load_vae

__all__ = [
    "AdapterLayout",
    "convert_adapter",
    "load_adapter",
    "load_backbone",
    "load_image_encoder",
    "load_text_encoder",
    "load_transformer",
    "load_vae",
    "save_adapter",
]
