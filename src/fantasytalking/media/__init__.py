"""Sound, images and video between files and arrays, with PyAV, soxr and Pillow; no ffmpeg program is needed."""
