"""Training of the embedded model: codec, mouth painter, transformer, validation, export."""
