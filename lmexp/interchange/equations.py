"""What each of our models computes, in lines that stand in model.json: enough to write a reader in another language.

Written for a reader who has the tensors by name. Dropout is left out, for nothing is dropped when a model is used.
"""

from typing import Any

from lmexp.config.model import GELU, MLP, Attention, ModelConfig

NOTATION = [
    "x is a vector, W @ x the product with a matrix stored as [outputs, inputs], * multiplies number by number.",
    "sigmoid(a) = 1 / (1 + exp(-a)); softmax(a)[i] = exp(a[i]) / sum over j of exp(a[j]); silu(a) = a * sigmoid(a).",
    "T[i] is row i of a table; a tensor listed under `tied` has the values of the tensor it names.",
]
ATTENTION = [
    "q, k, v are cut into heads of size d, the head of number h being elements h*d to (h+1)*d.",
    "attended[t] in each head = sum over s of softmax over s of (q[t] . k[s] / sqrt(d)) times v[s]; heads are put side "
    "by side again.",
]


def equations(config: ModelConfig) -> list[str]:
    """Return what the model of a config computes, [] for one that is not ours."""
    lines = _LINES.get(config.name)
    return [] if lines is None else [*NOTATION, *lines(config)]


def _lstm(config: Any) -> list[str]:
    lines = [
        "All of h[l] and c[l], the hidden and the cell state of layer l from 0, are 0 before the first token.",
        "For each token i: x = embedding.weight[i], then for each layer l in order:",
        "  a = layers.l.weight_ih_l0 @ x + layers.l.bias_ih_l0 + layers.l.weight_hh_l0 @ h[l] + layers.l.bias_hh_l0",
        "  a is cut into four equal parts, in this order: a_i, a_f, a_g, a_o (input, forget, cell, output)",
        "  c[l] = sigmoid(a_f) * c[l] + sigmoid(a_i) * tanh(a_g)",
        "  h[l] = sigmoid(a_o) * tanh(c[l]), and x = h[l] goes into the next layer",
    ]
    width = config.embedding_size or config.hidden_size
    if config.tie_embeddings and width != config.hidden_size:
        lines.append("x = projection.weight @ x")
    if config.adaptive_cutoffs:
        return [*lines, *_adaptive(config)]
    lines.append("logits of the next token = head.weight @ x" + (" + head.bias" if config.output_bias else ""))
    return [*lines, "probabilities of the next token = softmax(logits)"]


def _adaptive(config: Any) -> list[str]:
    bias, group_bias = (" + head.bias", " + head.group_bias") if config.output_bias else ("", "")
    cutoffs = config.adaptive_cutoffs
    return [
        f"The vocabulary is cut at {cutoffs}, as far as they are smaller than it; k is the first cutoff.",
        f"first = log softmax of (head.weight[0:k] @ x{bias}, with head.group_weight @ x{group_bias} put behind)",
        "log probability of the next token i = first[i] where i < k",
        f"else, with g the number of its group and [s, e) its tokens: first[k + g] + log softmax of "
        f"(head.weight[s:e] @ x{bias})[i - s]",
    ]


def _rotary(config: Any) -> list[str]:
    size = config.head_size or config.hidden_size // config.num_heads
    lines = [
        "For the token i at position t from 0: x = embedding.weight[i], then for each block n in order:",
        f"  rmsnorm(a, w) = a / sqrt(mean(a * a) + {config.norm_epsilon:g}) * w",
        "  y = rmsnorm(x, blocks.n.attention_norm.weight)",
        "  q, k, v = blocks.n.attention.query.weight @ y, ...key.weight @ y, ...value.weight @ y",
        f"  d = {size}; there are {config.num_heads} heads of q and {config.num_key_value_heads or config.num_heads} "
        "of k and v, each shared by as many heads of q that follow each other",
    ]
    if config.qk_norm:
        lines.append("  q, k in each head = rmsnorm(q, ...query_norm.weight), rmsnorm(k, ...key_norm.weight)")
    return [
        *lines,
        f"  q and k in each head are turned: for j < d/2 and the angle g = t * {config.rope_theta:g}^(-2j/d), elements "
        "(a, b) = (j, j + d/2) become (a cos g - b sin g, b cos g + a sin g)",
        *(f"  {line}" for line in ATTENTION),
        "  s goes over " + ("all tokens" if config.name == "encoder" else "the tokens up to t"),
        "  x = x + blocks.n.attention.output.weight @ attended",
        "  y = rmsnorm(x, blocks.n.mlp_norm.weight)",
        "  x = x + blocks.n.mlp.down.weight @ (silu(blocks.n.mlp.gate.weight @ y) * (blocks.n.mlp.up.weight @ y))",
        "logits = head.weight @ rmsnorm(x, norm.weight), of "
        + ("the token at t" if config.name == "encoder" else "the next token"),
    ]


def _fast(config: Any) -> list[str]:
    size, taps = config.hidden_size // config.num_heads, config.shift_taps
    lines = [
        "norm(a) = (a - mean(a)) / sqrt(mean((a - mean(a))^2) + 1e-05)",
        "shift(name, a)[t] = a[t]"
        + "".join(f" + name.taps.{k - 1} * a[t - {k}]" for k in range(1, taps + 1))
        + ("; a before the first token is 0" if taps else ""),
        "For the token i at position t from 0: x = norm(shift(shift, embedding.weight[i]))",
        "For each block n in order:",
        "  y = shift(blocks.n.attention_shift, norm(x))",
        "  q, k, v = the three equal parts of blocks.n.attention.qkv.weight @ y",
        f"  d = {size}",
    ]
    if config.qk_norm:
        lines.append("  q, k in each head = norm(q), norm(k)")
    lines.append(
        f"  q and k in each head are turned: for j < d/2 and the angle g = t * {config.rope_theta:g}^(-2j/d), elements "
        "(a, b) = (j, j + d/2) become (a cos g - b sin g, b cos g + a sin g)"
    )
    if config.qk_norm:
        lines.append("  q in the head of number h = q * blocks.n.attention.gain[h]")
    write = (
        "relu(blocks.n.mlp.up.weight @ y)^2"
        if config.mlp is MLP.relu2
        else "(silu(blocks.n.mlp.gate.weight @ y) * (blocks.n.mlp.up.weight @ y))"
    )
    return [
        *lines,
        *(f"  {line}" for line in ATTENTION),
        "  s goes over the tokens up to t",
        "  x = x + blocks.n.attention.output.weight @ attended",
        "  y = shift(blocks.n.mlp_shift, norm(x))",
        f"  x = x + blocks.n.mlp.down.weight @ {write}",
        "logits of the next token = head.weight @ norm(x)",
    ]


def _gelu(config: Any) -> str:
    if config.gelu is GELU.exact:
        return "gelu(a) = a / 2 * (1 + erf(a / sqrt(2)))"
    return "gelu(a) = a / 2 * (1 + tanh(sqrt(2 / pi) * (a + 0.044715 * a^3)))"


def _gpt2(config: Any) -> list[str]:
    size = config.hidden_size // config.num_heads
    return [
        "linear(name, a) = name.weight @ a + name.bias, where there is a bias; "
        "norm(name, a) = (a - mean(a)) / sqrt(mean((a - mean(a))^2) + 1e-05) * name.weight + name.bias, likewise",
        _gelu(config),
        "For the token i at position t from 0: x = embedding.weight[i] + position_embedding.weight[t]",
        "For each block n in order:",
        "  q, k, v = the three equal parts of linear(blocks.n.attention.qkv, norm(blocks.n.attention_norm, x))",
        f"  d = {size}",
        *(f"  {line}" for line in ATTENTION),
        "  s goes over the tokens up to t",
        "  x = x + linear(blocks.n.attention.output, attended)",
        "  x = x + linear(blocks.n.mlp.down, gelu(linear(blocks.n.mlp.up, norm(blocks.n.mlp_norm, x))))",
        "logits of the next token = head.weight @ norm(norm, x)",
    ]


def _bert(config: Any) -> list[str]:
    return [
        "linear(name, a) = name.weight @ a + name.bias; norm(name, a) = "
        f"(a - mean(a)) / sqrt(mean((a - mean(a))^2) + {config.norm_epsilon:g}) * name.weight + name.bias",
        _gelu(config),
        "For the token i at position t from 0: x = norm(embedding_norm, embedding.weight[i] + "
        "position_embedding.weight[t] + type_embedding.weight[0])",
        "For each block n in order:",
        "  q, k, v = linear(blocks.n.attention.query, x), ...key, ...value",
        f"  d = {config.hidden_size // config.num_heads}",
        *(f"  {line}" for line in ATTENTION),
        "  s goes over all tokens",
        "  x = norm(blocks.n.attention_norm, x + linear(blocks.n.attention.output, attended))",
        "  x = norm(blocks.n.mlp_norm, x + linear(blocks.n.mlp.down, gelu(linear(blocks.n.mlp.up, x))))",
        "logits of the token at t = head.weight @ norm(head.norm, gelu(linear(head.dense, x))) + head.bias",
    ]


def _encoder_decoder(config: Any) -> list[str]:
    lines = [line for line in _gpt2(config) if not line.startswith(("For the", "logits"))]
    return [
        *lines[:2],
        "Source: x = embedding.weight[i] + encoder.position_embedding.weight[t], then blocks as below named "
        "encoder.blocks.n in which s goes over all tokens, then z = norm(encoder.norm, x)",
        "Target: x = embedding.weight[i] + position_embedding.weight[t], then blocks.n as below",
        *lines[2:-1],
        "  in blocks.n only, before the line with mlp: q = linear(blocks.n.cross_attention.query, "
        "norm(blocks.n.cross_attention_norm, x)), k and v = the two halves of linear(keys_values.n, z), s goes over "
        "the source, and x = x + linear(blocks.n.cross_attention.output, attended)",
        lines[-1],
        "logits of the next token of the target = head.weight @ norm(norm, x)",
    ]


def _lstm_attention(config: Any) -> list[str]:
    is_luong = config.attention is Attention.luong
    return [
        "An LSTM step is that of torch.nn.LSTM: weights in the order input, forget, cell, output.",
        "Source: z = the outputs of encoder, a bidirectional LSTM over embedding.weight[i], both directions side by "
        "side (*_reverse reads from the end); its last h and c, side by side for each layer, start the decoder",
        "keys = attention.key.weight @ z",
        "looking with q: weights = softmax over the source of "
        + ("q . keys" if is_luong else "attention.score . tanh(attention.query.weight @ q + keys)")
        + "; context = sum of weights times z",
        "Target: the decoder, an LSTM, reads embedding.weight[i]"
        + (
            "; y is its output, and context is what it sees looking with y"
            if is_luong
            else " with context behind it: what it sees looking with its last h of the top layer; y is its output"
        ),
        "logits of the next token of the target = head.weight @ tanh(combine.weight @ (context with y behind it)) + "
        "head.bias",
    ]


_LINES = {
    "lstm": _lstm,
    "transformer": _rotary,
    "transformer_fast": _fast,
    "encoder": _rotary,
    "gpt2": _gpt2,
    "bert": _bert,
    "encoder_decoder": _encoder_decoder,
    "lstm_attention": _lstm_attention,
}
