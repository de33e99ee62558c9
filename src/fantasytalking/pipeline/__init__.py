"""Image, speech and prompt to a talking video."""
