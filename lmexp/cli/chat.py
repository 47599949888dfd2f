"""lmexp chat: a run that has learned to answer, in the terminal or over HTTP."""

from typing import Annotated

import typer

from lmexp.cli.door import Checkpoint, Run, errors, say


def chat(
    run: Run,
    system: Annotated[str | None, typer.Option(help="What the assistant is; else as in training.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 500,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest token; 1: as the model is.")] = 0.8,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="Choose among the likeliest of this share.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another answer.")] = 0,
    serve: Annotated[
        bool, typer.Option("--serve", help="Answer over HTTP on 127.0.0.1 as OpenAI's interface does.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve; 0 takes a free one.")] = 8643,
    max_requests: Annotated[int, typer.Option(min=1, help="With --serve: texts at once, with those that wait.")] = 64,
    timeout_seconds: Annotated[float, typer.Option(min=1, help="With --serve: what a text may take.")] = 120.0,
    checkpoint: Checkpoint = "last",
) -> None:
    """Talk to a run that has learned to answer, here or over HTTP."""
    with errors():
        from lmexp.generation.prompts import require_writer
        from lmexp.generation.sampling import Sampling
        from lmexp.runs import find_run

        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
        require_writer(find_run(run))  # what is wrong is said before torch is imported
        from lmexp.checkpoints import load_run

        if serve:
            from lmexp.serving.endpoint import Limits
            from lmexp.serving.endpoint import serve as serve_run

            limits = Limits(max_tokens=max_tokens, max_requests=max_requests, timeout_seconds=timeout_seconds)
            serve_run(load_run(run, checkpoint), port=port, limits=limits, say=say)
            return
        from lmexp.serving.dialogue import Dialogue
        from lmexp.serving.terminal import chat as chat_in_terminal

        dialogue = Dialogue(load_run(run, checkpoint), sampling)
        dialogue.reset(system)
        chat_in_terminal(dialogue)
