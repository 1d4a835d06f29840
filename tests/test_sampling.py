from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charlm import CharlmError, UnknownCharacterError, stream
from charlm.engine.sampling import Sampler, SamplingOptions, next_char_probs
from charlm.models import LanguageModel
from charlm.service.batching import Batcher

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0], dtype=torch.float64)


def write(model: LanguageModel, prompt: str = "ANN", **options: object) -> str:
    return "".join(step.char for step in stream(model, prompt, **options))


def test_same_seed_same_text(trained: LanguageModel):
    first = write(trained, max_new_chars=80, seed=3)
    assert len(first) == 80
    assert write(trained, max_new_chars=80, seed=3) == first
    assert write(trained, max_new_chars=80, seed=4) != first


def test_every_engine_writes_the_same_text(gpt: LanguageModel):
    """The model's own forward pass over the whole text, the kernel, and the kernel among others."""
    options = SamplingOptions(120, temperature=0.9, top_k=40, seed=7)
    ids = gpt.tokenizer.encode("ROMEO:")
    sampler = Sampler([options], [np.random.default_rng(options.seed)])
    for _ in range(options.max_new_chars):
        with torch.inference_mode():
            logits, _ = gpt(torch.tensor([ids]))
        drawn, _ = sampler.draw(gpt.tokenizer, logits[0, -1:].numpy())
        ids.append(int(drawn[0]))
    expected = gpt.tokenizer.decode(ids[6:])
    assert write(gpt, "ROMEO:", max_new_chars=120, temperature=0.9, top_k=40, seed=7) == expected
    batcher = Batcher()
    others = [batcher.submit(gpt, [i], SamplingOptions(200, seed=i)) for i in range(3)]
    among = batcher.submit(gpt, gpt.tokenizer.encode("ROMEO:"), options)
    assert "".join(step.char for step in among) == expected
    for other in others:
        other.close()


def test_zero_temperature_is_greedy(trained: LanguageModel):
    tokenizer = trained.tokenizer
    text = "ANN"
    for step in stream(trained, text, max_new_chars=10, temperature=0):
        logits, _ = trained(torch.tensor([tokenizer.encode(text)]))
        assert step.char == tokenizer.vocab[int(logits[0, -1].argmax())]
        text += step.char


def test_a_step_tells_what_it_was_drawn_from(trained: LanguageModel):
    for step in stream(trained, "BOB", max_new_chars=20, temperature=0.9, top_k=5, seed=1):
        assert 1 <= len(step.alternatives) <= 5
        assert dict(step.alternatives)[step.char] == pytest.approx(step.prob)
        probs = [p for _, p in step.alternatives]
        assert probs == sorted(probs, reverse=True)
        assert sum(probs) == pytest.approx(1, abs=1e-5)


def test_characters_are_drawn_as_often_as_their_probability_says(trained: LanguageModel):
    steps = [next(stream(trained, "A", max_new_chars=1, seed=seed)) for seed in range(2000)]
    likeliest, p = steps[0].alternatives[0]
    drawn = Counter(step.char for step in steps)[likeliest] / 2000
    assert abs(drawn - p) < 4 * math.sqrt(p * (1 - p) / 2000)


def test_filters():
    probs = LOGITS.softmax(0).numpy()
    assert np.allclose(next_char_probs(LOGITS), probs)
    assert np.allclose(next_char_probs(LOGITS, temperature=0.5), (LOGITS / 0.5).softmax(0))
    assert next_char_probs(LOGITS, temperature=0).tolist() == [1, 0, 0, 0, 0]
    two = np.append(probs[:2] / probs[:2].sum(), [0, 0, 0])
    assert np.allclose(next_char_probs(LOGITS, top_k=2), two)
    # The first alone does not reach 0.7, the first two together do.
    assert np.allclose(next_char_probs(LOGITS, top_p=0.7), two)
    assert next_char_probs(LOGITS, top_p=1e-9).tolist() == [1, 0, 0, 0, 0]
    assert np.allclose(next_char_probs(LOGITS, top_k=99, top_p=1.0), probs)


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20),
    st.floats(0, 1e3),
    st.none() | st.integers(1, 30),
    st.none() | st.floats(0, 1, exclude_min=True),
)
def test_any_setting_gives_a_distribution(logits, temperature, top_k, top_p):
    probs = next_char_probs(torch.tensor(logits), temperature, top_k, top_p)
    assert probs.min() >= 0
    assert probs.sum().item() == pytest.approx(1, abs=1e-4)
    assert top_k is None or np.count_nonzero(probs) <= top_k


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": 0},
        {"top_p": 0},
        {"top_p": 1.5},
        {"max_new_chars": 0},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_settings_out_of_range_are_refused_before_the_first_character(options, trained: LanguageModel):
    with pytest.raises(CharlmError, match=next(iter(options))):
        stream(trained, "A", **options)


def test_unknown_characters_are_refused_before_the_first_character(trained: LanguageModel):
    with pytest.raises(UnknownCharacterError, match="position 1"):
        stream(trained, "Aé")


def test_an_empty_prompt_begins_as_after_a_line_break(trained: LanguageModel):
    assert write(trained, "", max_new_chars=20, seed=1) == write(trained, "\n", max_new_chars=20, seed=1)


def test_generation_goes_on_past_block_size_as_well_as_before(gpt: LanguageModel):
    """The mean surprise of what it writes stays level from one window to the next."""
    T = gpt.config.block_size
    steps = stream(gpt, "ROMEO:", max_new_chars=4 * T, seed=1)
    surprise = [-math.log(step.prob) for step in steps]
    means = [sum(surprise[i * T : (i + 1) * T]) / T for i in range(4)]
    assert max(means) - min(means) < 0.5, means


def test_a_long_prompt_counts_by_its_end(trained: LanguageModel):
    prompt = "The sea is blue, and 7 of them I saw.\n" * 20
    assert write(trained, prompt, max_new_chars=20, seed=1) == write(
        trained, prompt[-16:], max_new_chars=20, seed=1
    )


def test_a_stream_can_be_left_at_any_time(trained: LanguageModel):
    steps = stream(trained, "A", max_new_chars=10**9, seed=1)
    assert len(list(islice(steps, 5))) == 5
    steps.close()
