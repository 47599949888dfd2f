"""How long a row of a batch may be for a text of so many tokens."""

from lmexp.config.data import DataConfig, Order
from lmexp.errors import DataError


def require_context(num_tokens: int, data: DataConfig, *, accumulate: int) -> None:
    """Raise when a training split has less than one row of a batch for every stream.

    Raises:
        DataError: saying the longest context that works.
    """
    rows = data.global_batch_size or data.rows * accumulate
    streams = rows if data.order is Order.contiguous else 1
    longest = (num_tokens - 1) // streams
    if longest < data.context_length:
        raise DataError(
            f"the train split has {num_tokens:,} tokens, too few for data.context_length={data.context_length}"
            + (f" in {streams:,} streams" if streams > 1 else "")
            + (f"; at most {longest} works" if longest > 0 else "; give it more text")
        )
