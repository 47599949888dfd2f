"""torch.compile, one variant of each option: tracing takes a second."""

import pytest

from tests.models.setups import CONFIGS, OURS, assert_close, random_tokens, rough_model


# Parts that begin behind what cannot be traced are given tensors with a history, at which torch warns itself.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", OURS)
def test_the_compiled_model_equals_the_model(name: str) -> None:
    model, tokens = rough_model(CONFIGS[name]), random_tokens(2, 9)
    plain, _ = model(tokens)
    model.compile(backend="eager")
    assert_close(model(tokens)[0], plain)
