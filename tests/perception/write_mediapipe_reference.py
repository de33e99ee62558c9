"""Writes `mediapipe_reference.npz`: points of `mp.solutions.face_mesh` for 20 frames of the validation clips.

Needs its own environment (mediapipe 0.10.21 wants numpy below 2), not the project's:
`pip install --no-deps mediapipe==0.10.21`, then
`pip install absl-py attrs flatbuffers matplotlib 'protobuf<5' 'numpy<2' 'opencv-contrib-python-headless<4.12' av`.
"""

import json
import sys
from pathlib import Path

import av
import mediapipe
import numpy as np

REFERENCE = Path(__file__).parent / "mediapipe_reference.npz"


def main(data: Path) -> None:
    """Takes frame 37 of each validation clip, and frames 15 and 60 of the first two.

    Args:
        data: folder with `catalogue.jsonl` and `clips/`.
    """
    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=False, max_num_faces=1)
    rows: list[tuple[str, int, np.ndarray]] = []
    entries = [json.loads(line) for line in (data / "catalogue.jsonl").read_text().splitlines()]
    for number, entry in enumerate(entry for entry in entries if entry["split"] == "val"):
        wanted = (15, 60) if number < 2 else (37,)
        with av.open(str(data / entry["file"])) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index in wanted:
                    image = frame.to_ndarray(format="rgb24")
                    height, width = image.shape[:2]
                    (face,) = mesh.process(image).multi_face_landmarks
                    points = [[p.x * width, p.y * height, p.z * width] for p in face.landmark]
                    rows.append((entry["file"], index, np.array(points, dtype=np.float32)))
                if index >= wanted[-1]:
                    break
    clips, frames, points = zip(*rows, strict=True)
    np.savez_compressed(REFERENCE, clips=np.array(clips), frames=np.array(frames), points=np.stack(points))
    print(f"{len(rows)} frames in {REFERENCE}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
