"""The field's terms, each explained where it is pointed at, tapped or reached by keyboard."""

from __future__ import annotations

import html
import re

TERMS = {
    "language model": "A program that gives, for any text, the probability of each possible continuation.",
    "vocabulary": "All characters that a model knows, sorted. The place of a character in it is its id.",
    "token": "What a model reads and writes at a time: a character here, a piece of a word in large models.",
    "split": "The text in two parts: nine tenths to learn from (training), "
    "the rest to be tested on (validation).",
    "batch": "Several chunks of text that are learned from at once.",
    "logits": "The numbers that a model gives to all characters: the larger, the likelier. "
    "Softmax makes probabilities of them.",
    "softmax": "Makes probabilities of any numbers: e to the power of each, "
    "divided by the sum of all of these.",
    "temperature": "What logits are divided by before the softmax: below 1 the likely becomes likelier "
    "still, above 1 all become more alike. At 0 the likeliest is taken, and texts repeat themselves.",
    "loss": "How badly a model guesses: minus the logarithm of the probability that it gave "
    "to what came, on average. The lower, the better.",
    "nats": "The unit of a loss whose logarithm is the natural one. A loss of x nats is that of a guess "
    "among e^x equally likely characters: 1.44 nats are as unsure as a choice among 4.2.",
    "head": "One way of looking back: every position takes from itself and those before it, by "
    "weights that sum to one.",
    "attention": "A weighted average of the past, whose weights each position computes for itself.",
    "step": "One look at a batch: the model guesses, is told, and every parameter moves a little.",
}
"""What each term means, in a sentence or two."""


def with_terms(text: str) -> str:
    """`text` (Markdown), in which `[[term]]`, or `[[term|as it is called here]]`, explains itself.

    Raises `KeyError` for a term that is not in `TERMS`.
    """

    def explained(found: re.Match[str]) -> str:
        term, _, called = found[1].partition("|")
        meaning = html.escape(TERMS[term])
        return (
            f'<span class="term" role="button" tabindex="0">{html.escape(called or term)}'
            f'<span class="meaning" role="tooltip">{meaning}</span></span>'
        )

    return re.sub(r"\[\[(.+?)\]\]", explained, text)
