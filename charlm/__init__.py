"""charlm: a character-level language model, done properly.

>>> import charlm
>>> model = charlm.load("gpt")
>>> for step in charlm.stream(model, prompt="ROMEO:", max_new_chars=200, temperature=0.8, seed=1):
...     print(step.char, end="")
"""

from charlm.checkpoints import load
from charlm.corpus import Corpus, get_batch, load_corpus
from charlm.engine.sampling import Step, stream
from charlm.errors import CharlmError
from charlm.surgery.operate import operate
from charlm.tokenizer import CharTokenizer, UnknownCharacterError
from charlm.training.evaluation import evaluate

__all__ = [
    "CharTokenizer",
    "CharlmError",
    "Corpus",
    "Step",
    "UnknownCharacterError",
    "evaluate",
    "get_batch",
    "load",
    "load_corpus",
    "operate",
    "stream",
]
