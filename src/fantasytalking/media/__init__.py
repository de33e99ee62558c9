"""Files to arrays and back: sound, images and video, by PyAV, soxr and Pillow, without an ffmpeg program."""
