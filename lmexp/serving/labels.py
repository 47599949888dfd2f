"""What label a text has, and how sure the model is."""

from collections.abc import Iterator, Sequence

import torch

from lmexp.checkpoints import LoadedRun
from lmexp.data.labelled import text_ids
from lmexp.errors import DataError
from lmexp.generation.rows import evaluating
from lmexp.generation.text import require_room
from lmexp.models.classifier import label_scores

Labelled = dict[str, object]
"""{"prompt", "label", "probabilities": {label: probability}}, the likeliest label first."""


@torch.inference_mode()
def label(loaded: LoadedRun, texts: Sequence[str], *, batch_size: int = 32) -> Iterator[Labelled]:
    """Yield the label of each text, in their order; a text is cut as those of training were.

    Raises:
        DataError: a text cannot be read.
    """
    model, tokenizer, labels, config = loaded.model, loaded.tokenizer, loaded.labels, loaded.config
    if "" in texts:
        raise DataError("a text to be labelled is empty; give it with --prompt or --prompts-file")
    device, most = next(model.parameters()).device, config.data.context_length
    for first in range(0, len(texts), batch_size):
        batch = texts[first : first + batch_size]
        ids = [one[:most] for one in text_ids(batch, tokenizer, has_end=config.data.end_of_document)]
        require_room(model, max(ids, key=len).tolist(), "the text")
        width = max(map(len, ids))
        tokens_BT = torch.tensor([[*one.tolist(), *[0] * (width - len(one))] for one in ids], device=device)
        mask_BT = torch.tensor([[column < len(one) for column in range(width)] for one in ids], device=device)
        with evaluating(model):
            shares_BK = label_scores(model, tokens_BT, mask_BT).double().softmax(-1)
        for text, shares in zip(batch, shares_BK.tolist(), strict=True):
            ranked = sorted(zip(labels, shares, strict=True), key=lambda pair: -pair[1])
            yield {"prompt": text, "label": ranked[0][0], "probabilities": dict(ranked)}


def shown(found: Labelled, most: int = 5) -> str:
    """Return a label and the likeliest ones with their probabilities, for a terminal."""
    probabilities = found["probabilities"]
    assert isinstance(probabilities, dict)
    others = [f"{name} {share:.1%}" for name, share in list(probabilities.items())[:most]]
    return f"{found['label']}  ({', '.join(others)})"
