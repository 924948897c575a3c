"""The likeliest tags of a sentence that may follow one another (Viterbi 1967, IEEE Transactions on Information Theory
13): no I-X after anything but B-X or I-X. Log-probabilities are added; a model learns no transitions."""

from __future__ import annotations

import numpy as np

from whet.data.schemes import may_follow


def allowed(tags: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Which tags may begin a sentence (C), and which may follow which (C x C, the earlier by row)."""
    begin = np.array([may_follow(None, tag) for tag in tags])
    follow = np.array([[may_follow(before, tag) for tag in tags] for before in tags])
    return begin, follow


def likeliest(log_probabilities: np.ndarray, starts: np.ndarray, tags: tuple[str, ...]) -> np.ndarray:
    """Tag numbers (N) of all words; `log_probabilities` is N x C, sentence s has the words `starts[s]:starts[s + 1]`.

    All sentences go forward together, word by word, so that the work is one small array for each place in a sentence.
    """
    begin, follow = allowed(tags)
    forbidden = np.where(follow, 0.0, -np.inf)
    lengths = np.diff(starts)
    order = np.argsort(-lengths, kind="stable")
    firsts, longest = starts[:-1][order], int(lengths.max(initial=0))
    made = np.zeros(len(log_probabilities), np.int64)
    if not longest:
        return made
    came_from: list[np.ndarray] = []
    score = np.where(begin, log_probabilities[firsts[: (lengths > 0).sum()]], -np.inf)
    scores = [score]
    for word in range(1, longest):
        at_work = int((lengths > word).sum())
        paths = score[:at_work, :, None] + forbidden
        best = paths.argmax(1)
        score = np.take_along_axis(paths, best[:, None], 1)[:, 0] + log_probabilities[firsts[:at_work] + word]
        came_from.append(best)
        scores.append(score)
    chosen = np.zeros(0, np.int64)
    for word in range(longest - 1, -1, -1):
        at_work = len(scores[word])
        own = scores[word].argmax(1)  # where a sentence ends here; the others follow what came after
        if len(chosen):
            own[: len(chosen)] = came_from[word][np.arange(len(chosen)), chosen]
        made[firsts[:at_work] + word] = own
        chosen = own
    return made
