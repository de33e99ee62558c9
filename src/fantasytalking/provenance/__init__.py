"""Marks that say a video is synthetic: signed manifest (C2PA), invisible watermark, visible label, and what reads them back."""
