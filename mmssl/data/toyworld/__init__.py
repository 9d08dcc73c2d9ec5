"""The toy world, the embedded default corpus: real mp4, AAC and srt files whose every answer is known.

Objects of twelve materials fly, bounce and collide before textured, moving backgrounds. Eight of the materials ring when struck, four
are silent; each has its own texture and, mostly, its own shape and hue. Captions say what happens. `Difficulty` sets how hard it is to find
out, `CUTS` name the links that can be cut, and `load_truth` reads who sounds, when and where, what moves how, and what is said.
"""

from mmssl.data.toyworld.corpus import STAMP, clip_path, make_toyworld
from mmssl.data.toyworld.difficulty import CUTS, PRESETS, Cut, Difficulty
from mmssl.data.toyworld.truth import Truth, TruthImpact, TruthSound, load_truth

__all__ = [
    "CUTS",
    "PRESETS",
    "STAMP",
    "Cut",
    "Difficulty",
    "Truth",
    "TruthImpact",
    "TruthSound",
    "clip_path",
    "load_truth",
    "make_toyworld",
]
