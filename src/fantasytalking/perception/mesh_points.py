"""Names of the 468 points of the face mesh, and the triangles between them.

"Left" and "right" are the person's own: RIGHT_EYE is on the image's left. The numbering is that of MediaPipe's face
mesh; the triangles follow from the edges of its tessellation, which come in threes (852 triangles, Euler
characteristic -2: a disc with three holes). The holes (mouth, right eye, left eye) are filled here with strips, last
in the list.
"""

import json
from pathlib import Path

import numpy as np

NUM_POINTS = 468
RIGHT_EYE_OUTER, RIGHT_EYE_INNER, LEFT_EYE_INNER, LEFT_EYE_OUTER = 33, 133, 362, 263
NOSE_TIP, FOREHEAD_TOP, CHIN = 4, 10, 152
MOUTH_CORNER_RIGHT, MOUTH_CORNER_LEFT = 61, 291

# Closed outlines, clockwise on the screen from the corner at the image's left (the oval: from the top of the forehead).
LIPS_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
LIPS_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
LEFT_EYE = (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382)
# Lid points between the corners of an eye, from the image's left to its right, upper and lower ones in pairs, and the points of the
# next two rings above and the next ring below.
RIGHT_LIDS = ((246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155))
LEFT_LIDS = ((398, 384, 385, 386, 387, 388, 466), (382, 381, 380, 374, 373, 390, 249))
RIGHT_LID_RINGS = ((247, 30, 29, 27, 28, 56, 190), (113, 225, 224, 223, 222, 221, 189), (25, 110, 24, 23, 22, 26, 112))
LEFT_LID_RINGS = (
    (414, 286, 258, 257, 259, 260, 467),
    (413, 441, 442, 443, 444, 445, 342),
    (341, 256, 252, 253, 254, 339, 255),
)
RIGHT_EYEBROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
LEFT_EYEBROW = (336, 296, 334, 293, 300, 276, 283, 282, 295, 285)
FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
# Inner-lip points between the corners of the mouth, from the image's left to its right, upper and lower ones in pairs.
INNER_LIPS = ((191, 80, 81, 82, 13, 312, 311, 310, 415), (95, 88, 178, 87, 14, 317, 402, 318, 324))
# (upper, lower) inner-lip points, the middle of the mouth and one pair to either side.
INNER_LIP_PAIRS = ((82, 87), (13, 14), (312, 317))
# (upper, lower) lid points, the middle of the eye and one pair to either side.
RIGHT_LID_PAIRS, LEFT_LID_PAIRS = (tuple(zip(*lids, strict=True))[2:5] for lids in (RIGHT_LIDS, LEFT_LIDS))
# Forehead, temples, cheekbones, eye corners and the nose: what speech and expression hardly move.
RIGID_POINTS = (
    *(10, 67, 297, 54, 284, 103, 332, 21, 251, 127, 356, 234, 454, 143, 372, 117, 346),
    *(33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 98, 327),
)

# int64 [898, 3], all with the same orientation; the first 852 are skin and lips, then 18 mouth, 14 right eye, 14 left
# eye.
TRIANGLES = np.array(
    json.loads((Path(__file__).parent / "mesh_triangles.json").read_text(encoding="utf-8")), dtype=np.int64
)
NUM_SKIN_TRIANGLES = 852
