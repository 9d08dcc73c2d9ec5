"""How each objective is proven: the figure that counts, the level that was asked of it before it was measured, and how its link is cut."""

from __future__ import annotations

from typing import NamedTuple


class Task(NamedTuple):
    """One row of the table."""

    level: float  # what the figure must reach on the whole toy world
    figure: str = "judged.accuracy"  # where it stands in the evaluation
    cut: str | None = None  # the toy world's switch that leaves nothing to learn
    cut_overrides: tuple[str, ...] = ()  # or what cuts the link in the config
    real: tuple[str, ...] = ()  # folders of the development media
    real_overrides: tuple[str, ...] = ()
    real_config: str = ""  # in configs/real, where real clips want another one
    config: str = ""  # in configs/tiny, where it is not the objective's name
    may_fall_below: bool = (
        False  # with the link cut: the figure is measured against a rule (copying) that may be better than the model
    )
    difficulty: str | None = None  # of the toy world, where it is not the default
    words: int = 0  # tokens of the vocabulary that is trained on the data; 0: the objective reads no text
    documents: bool = (
        False  # trains on the captions as text files; without `cut_overrides` all their words are permuted to cut the link
    )

    @property
    def permuted(self) -> bool:
        """Whether the link is cut by permuting all words."""
        return self.documents and not self.cut_overrides

    @property
    def how(self) -> str:
        """How the link is cut, for the table."""
        if self.permuted:
            return "all words, sentence lengths and full stops permuted"
        named = [text.replace("streams.0.objectives.0.name=", "") for text in self.cut_overrides]
        return ", ".join(f"`{text}`" for text in (self.cut, *named) if text)


ORDER = ("grid", "gestures", "actions")
A_FIFTH = ("streams.0.holdout=0.2", "streams.0.batch=16")
FILMS = ("web", "grid", "actions", "silent")
TOLD = ("grid", "subtitled")
SPOKEN = (*A_FIFTH, "streams.0.objectives.0.views.pause=0.4")  # word by word alignments become sentences
WORD_BY_WORD = (*A_FIFTH, *(f"streams.0.objectives.0.views.{text}" for text in ("seconds=2.8", "steps=14", "captions=6")))
HEARD = ("web", "grid", "actions")  # those of them that have sound
HEARD_BRIEFLY = (*A_FIFTH, "train.steps=150")  # a hundred clips are memorised before that
ELSEWHERE = ("streams.0.objectives.0.name=controls.walk_home_elsewhere",)
FROM_STRANGERS = ("streams.0.objectives.0.name=controls.write_from_strangers",)
FLOW_FROM_STRANGERS = ("streams.0.objectives.0.name=controls.flow_from_strangers",)
TEXT = ("streams.0.holdout=0.1",)

TASKS = {
    "l3": Task(0.60, "accuracy", "sound_from_other_clip", real=HEARD, real_overrides=HEARD_BRIEFLY),
    "avenet": Task(0.60, "accuracy", "sound_from_other_clip", real=HEARD, real_overrides=HEARD_BRIEFLY),
    "avol": Task(0.75, "accuracy", "sound_from_other_clip", real=HEARD, real_overrides=HEARD_BRIEFLY),
    "av_nce": Task(0.75, "accuracy", "sound_from_other_clip", real=HEARD, real_overrides=HEARD_BRIEFLY),
    "avts": Task(0.70, "synchronisation", "sound_shifted", real=("grid",), real_config="grid_avts"),
    "shuffle_learn": Task(0.65, cut="frozen", real=ORDER, real_overrides=A_FIFTH),
    "frame_order": Task(0.25, cut="frozen", real=ORDER, real_overrides=A_FIFTH),  # 12 classes
    "clip_order": Task(0.40, cut="frozen", real=ORDER, real_overrides=A_FIFTH),  # 6 classes
    "odd_one_out": Task(0.45, cut="frozen", real=ORDER, real_overrides=A_FIFTH),
    "arrow_of_time": Task(0.65, cut="frozen", difficulty="lossy", real=ORDER, real_overrides=A_FIFTH),
    "playback_rate": Task(0.70, cut="frozen", real=ORDER, real_overrides=A_FIFTH),
    "video_rotation": Task(0.60, cut="turned", difficulty="falling", real=ORDER, real_overrides=A_FIFTH),
    "cubic_puzzle": Task(0.15, "judged.accuracy_time", cut="frozen", real=ORDER, real_overrides=A_FIFTH),  # 24 classes
    "dense_predictive_coding": Task(0.60, "judged.accuracy_temporal", cut="frozen", real=ORDER, real_overrides=A_FIFTH),
    "video_prediction": Task(0.80, cut="frozen", may_fall_below=True, real=ORDER, real_overrides=A_FIFTH),
    "rgb_flow": Task(0.65, cut_overrides=FLOW_FROM_STRANGERS, real=ORDER, real_overrides=A_FIFTH),
    "rgb_flow_pixel": Task(0.10, "judged.gain", cut_overrides=FLOW_FROM_STRANGERS, real=ORDER, real_overrides=A_FIFTH),
    "colorize": Task(0.05, "judged.better_than_copy", cut="frozen", may_fall_below=True, real=FILMS, real_overrides=A_FIFTH),
    "contrastive_random_walk": Task(0.50, cut_overrides=ELSEWHERE, real=FILMS, real_overrides=("streams.0.holdout=0.2",)),
    "mil_nce": Task(0.10, "retrieval.text_to_video.R@1", cut="captions_shuffled", words=300, real=TOLD, real_overrides=SPOKEN),
    "subtitle_alignment": Task(
        0.60, difficulty="easy", cut="captions_shuffled", words=300, real=("grid",), real_overrides=WORD_BY_WORD
    ),
    "masked_video_lm": Task(0.10, "judged.gain", cut="captions_shuffled", words=300, real=TOLD, real_overrides=SPOKEN),
    "masked_lm": Task(0.50, documents=True, words=300, real=("text",), real_overrides=TEXT),
    "next_sentence": Task(0.65, documents=True, words=300, real=("text",), real_overrides=TEXT),
    "gap_sentences": Task(0.10, "judged.gain", documents=True, words=300, real=("text",), real_overrides=TEXT),
    "denoise_text": Task(
        0.10, "judged.gain", documents=True, words=300, cut_overrides=FROM_STRANGERS, real=("text",), real_overrides=TEXT
    ),
}
