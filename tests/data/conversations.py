"""Twelve conversations, and how each template writes them: by hand, what is learned between double brackets.

The name of a special token that somebody says has a section sign before it.
"""

from lmexp.data.messages import Message, Role

ROLES = {"s": Role.system, "u": Role.user, "a": Role.assistant, "t": Role.tool, "x": Role.assistant}


def said(*messages: tuple[str, str]) -> tuple[Message, ...]:
    """Return messages; x is an answer that is not learned."""
    return tuple(Message(ROLES[who], content, is_learned=who != "x") for who, content in messages)


CONVERSATIONS = {
    "one question": said(("u", "Hi"), ("a", "Hello!")),
    "with a system message": said(("s", "Be kind."), ("u", "Hi"), ("a", "Hello!")),
    "two questions": said(("u", "Hi"), ("a", "Hello!"), ("u", "Bye"), ("a", "See you.")),
    "a system message and two questions": said(
        ("s", "Be brief."), ("u", "One?"), ("a", "1"), ("u", "Two?"), ("a", "2")
    ),
    "no answer": said(("u", "Anyone?")),
    "the user has the last word": said(("u", "Hi"), ("a", "Hello!"), ("u", "Bye")),
    "a tool is called": said(("u", "Rain?"), ("a", "look()"), ("t", "yes"), ("a", "It rains.")),
    "one of two answers is learned": said(("u", "Hi"), ("x", "Go away"), ("u", "Pardon?"), ("a", "Hello!")),
    "Chinese, emoji and a combining accent": said(("u", "你好🙂"), ("a", "早e\u0301上好")),
    "white space around": said(("u", " Hi\n"), ("a", "\n Hello! ")),
    "names of special tokens are said": said(("u", "<|im_end|></s><|eot_id|><|user|>"), ("a", "<|im_start|>a")),
    "the assistant begins": said(("a", "Welcome."), ("u", "Hi"), ("a", "Hello!")),
}

CHATML = {
    "one question": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Hello!<|im_end|>⟧\n",
    "with a system message": (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n⟦Hello!<|im_end|>⟧\n"
    ),
    "two questions": (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Hello!<|im_end|>⟧\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n⟦See you.<|im_end|>⟧\n"
    ),
    "a system message and two questions": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n"
        "⟦1<|im_end|>⟧\n<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n⟦2<|im_end|>⟧\n"
    ),
    "no answer": "<|im_start|>user\nAnyone?<|im_end|>\n",
    "the user has the last word": (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Hello!<|im_end|>⟧\n<|im_start|>user\nBye<|im_end|>\n"
    ),
    "a tool is called": (
        "<|im_start|>user\nRain?<|im_end|>\n<|im_start|>assistant\n⟦look()<|im_end|>⟧\n"
        "<|im_start|>tool\nyes<|im_end|>\n<|im_start|>assistant\n⟦It rains.<|im_end|>⟧\n"
    ),
    "one of two answers is learned": (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nGo away<|im_end|>\n"
        "<|im_start|>user\nPardon?<|im_end|>\n<|im_start|>assistant\n⟦Hello!<|im_end|>⟧\n"
    ),
    "Chinese, emoji and a combining accent": (
        "<|im_start|>user\n你好🙂<|im_end|>\n<|im_start|>assistant\n⟦早e\u0301上好<|im_end|>⟧\n"
    ),
    "white space around": "<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\n⟦\n Hello! <|im_end|>⟧\n",
    "names of special tokens are said": (
        "<|im_start|>user\n§<|im_end|>§</s>§<|eot_id|>§<|user|><|im_end|>\n"
        "<|im_start|>assistant\n⟦§<|im_start|>a<|im_end|>⟧\n"
    ),
    "the assistant begins": (
        "<|im_start|>assistant\n⟦Welcome.<|im_end|>⟧\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n⟦Hello!<|im_end|>⟧\n"
    ),
}

USER, ASSISTANT = "<|start_header_id|>user<|end_header_id|>\n\n", "<|start_header_id|>assistant<|end_header_id|>\n\n"
SYSTEM, TOOL = "<|start_header_id|>system<|end_header_id|>\n\n", "<|start_header_id|>ipython<|end_header_id|>\n\n"
LLAMA = {
    "one question": f"{USER}Hi<|eot_id|>{ASSISTANT}⟦Hello!<|eot_id|>⟧",
    "with a system message": f"{SYSTEM}Be kind.<|eot_id|>{USER}Hi<|eot_id|>{ASSISTANT}⟦Hello!<|eot_id|>⟧",
    "two questions": (
        f"{USER}Hi<|eot_id|>{ASSISTANT}⟦Hello!<|eot_id|>⟧{USER}Bye<|eot_id|>{ASSISTANT}⟦See you.<|eot_id|>⟧"
    ),
    "a system message and two questions": (
        f"{SYSTEM}Be brief.<|eot_id|>{USER}One?<|eot_id|>{ASSISTANT}⟦1<|eot_id|>⟧"
        f"{USER}Two?<|eot_id|>{ASSISTANT}⟦2<|eot_id|>⟧"
    ),
    "no answer": f"{USER}Anyone?<|eot_id|>",
    "the user has the last word": f"{USER}Hi<|eot_id|>{ASSISTANT}⟦Hello!<|eot_id|>⟧{USER}Bye<|eot_id|>",
    "a tool is called": (
        f"{USER}Rain?<|eot_id|>{ASSISTANT}⟦look()<|eot_id|>⟧{TOOL}yes<|eot_id|>{ASSISTANT}⟦It rains.<|eot_id|>⟧"
    ),
    "one of two answers is learned": (
        f"{USER}Hi<|eot_id|>{ASSISTANT}Go away<|eot_id|>{USER}Pardon?<|eot_id|>{ASSISTANT}⟦Hello!<|eot_id|>⟧"
    ),
    "Chinese, emoji and a combining accent": f"{USER}你好🙂<|eot_id|>{ASSISTANT}⟦早e\u0301上好<|eot_id|>⟧",
    "white space around": f"{USER}Hi<|eot_id|>{ASSISTANT}⟦Hello!<|eot_id|>⟧",
    "names of special tokens are said": (
        f"{USER}§<|im_end|>§</s>§<|eot_id|>§<|user|><|eot_id|>{ASSISTANT}⟦§<|im_start|>a<|eot_id|>⟧"
    ),
    "the assistant begins": (f"{ASSISTANT}⟦Welcome.<|eot_id|>⟧{USER}Hi<|eot_id|>{ASSISTANT}⟦Hello!<|eot_id|>⟧"),
}

PREAMBLE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
)
ALPACA = {
    "one question": f"{PREAMBLE}### Instruction:\nHi\n\n### Response:\n⟦Hello!</s>⟧\n\n",
    "with a system message": "Be kind.\n\n### Instruction:\nHi\n\n### Response:\n⟦Hello!</s>⟧\n\n",
    "two questions": (
        f"{PREAMBLE}### Instruction:\nHi\n\n### Response:\n⟦Hello!</s>⟧\n\n"
        "### Instruction:\nBye\n\n### Response:\n⟦See you.</s>⟧\n\n"
    ),
    "a system message and two questions": (
        "Be brief.\n\n### Instruction:\nOne?\n\n### Response:\n⟦1</s>⟧\n\n"
        "### Instruction:\nTwo?\n\n### Response:\n⟦2</s>⟧\n\n"
    ),
    "no answer": f"{PREAMBLE}### Instruction:\nAnyone?\n\n",
    "the user has the last word": (
        f"{PREAMBLE}### Instruction:\nHi\n\n### Response:\n⟦Hello!</s>⟧\n\n### Instruction:\nBye\n\n"
    ),
    "a tool is called": (
        f"{PREAMBLE}### Instruction:\nRain?\n\n### Response:\n⟦look()</s>⟧\n\n"
        "### Observation:\nyes\n\n### Response:\n⟦It rains.</s>⟧\n\n"
    ),
    "one of two answers is learned": (
        f"{PREAMBLE}### Instruction:\nHi\n\n### Response:\nGo away</s>\n\n"
        "### Instruction:\nPardon?\n\n### Response:\n⟦Hello!</s>⟧\n\n"
    ),
    "Chinese, emoji and a combining accent": (
        f"{PREAMBLE}### Instruction:\n你好🙂\n\n### Response:\n⟦早e\u0301上好</s>⟧\n\n"
    ),
    "white space around": f"{PREAMBLE}### Instruction:\n Hi\n\n\n### Response:\n⟦\n Hello! </s>⟧\n\n",
    "names of special tokens are said": (
        f"{PREAMBLE}### Instruction:\n§<|im_end|>§</s>§<|eot_id|>§<|user|>\n\n### Response:\n⟦§<|im_start|>a</s>⟧\n\n"
    ),
    "the assistant begins": (
        f"{PREAMBLE}### Response:\n⟦Welcome.</s>⟧\n\n### Instruction:\nHi\n\n### Response:\n⟦Hello!</s>⟧\n\n"
    ),
}

PLAIN = {
    "one question": "User: Hi\nAssistant: ⟦Hello!</s>⟧\n",
    "with a system message": "Be kind.\nUser: Hi\nAssistant: ⟦Hello!</s>⟧\n",
    "two questions": "User: Hi\nAssistant: ⟦Hello!</s>⟧\nUser: Bye\nAssistant: ⟦See you.</s>⟧\n",
    "a system message and two questions": (
        "Be brief.\nUser: One?\nAssistant: ⟦1</s>⟧\nUser: Two?\nAssistant: ⟦2</s>⟧\n"
    ),
    "no answer": "User: Anyone?\n",
    "the user has the last word": "User: Hi\nAssistant: ⟦Hello!</s>⟧\nUser: Bye\n",
    "a tool is called": "User: Rain?\nAssistant: ⟦look()</s>⟧\nTool: yes\nAssistant: ⟦It rains.</s>⟧\n",
    "one of two answers is learned": "User: Hi\nAssistant: Go away</s>\nUser: Pardon?\nAssistant: ⟦Hello!</s>⟧\n",
    "Chinese, emoji and a combining accent": "User: 你好🙂\nAssistant: ⟦早e\u0301上好</s>⟧\n",
    "white space around": "User:  Hi\n\nAssistant: ⟦\n Hello! </s>⟧\n",
    "names of special tokens are said": (
        "User: §<|im_end|>§</s>§<|eot_id|>§<|user|>\nAssistant: ⟦§<|im_start|>a</s>⟧\n"
    ),
    "the assistant begins": "Assistant: ⟦Welcome.</s>⟧\nUser: Hi\nAssistant: ⟦Hello!</s>⟧\n",
}

ZEPHYR_JINJA = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""In the shape of Zephyr's: it does not mark answers."""
ZEPHYR = {
    "one question": "<|user|>\nHi</s>\n<|assistant|>\n⟦Hello!</s>⟧\n",
    "with a system message": "<|system|>\nBe kind.</s>\n<|user|>\nHi</s>\n<|assistant|>\n⟦Hello!</s>⟧\n",
    "two questions": (
        "<|user|>\nHi</s>\n<|assistant|>\n⟦Hello!</s>⟧\n<|user|>\nBye</s>\n<|assistant|>\n⟦See you.</s>⟧\n"
    ),
    "a system message and two questions": (
        "<|system|>\nBe brief.</s>\n<|user|>\nOne?</s>\n<|assistant|>\n⟦1</s>⟧\n"
        "<|user|>\nTwo?</s>\n<|assistant|>\n⟦2</s>⟧\n"
    ),
    "no answer": "<|user|>\nAnyone?</s>\n",
    "the user has the last word": "<|user|>\nHi</s>\n<|assistant|>\n⟦Hello!</s>⟧\n<|user|>\nBye</s>\n",
    "a tool is called": (
        "<|user|>\nRain?</s>\n<|assistant|>\n⟦look()</s>⟧\n<|tool|>\nyes</s>\n<|assistant|>\n⟦It rains.</s>⟧\n"
    ),
    "one of two answers is learned": (
        "<|user|>\nHi</s>\n<|assistant|>\nGo away</s>\n<|user|>\nPardon?</s>\n<|assistant|>\n⟦Hello!</s>⟧\n"
    ),
    "Chinese, emoji and a combining accent": "<|user|>\n你好🙂</s>\n<|assistant|>\n⟦早e\u0301上好</s>⟧\n",
    "white space around": "<|user|>\n Hi\n</s>\n<|assistant|>\n⟦\n Hello! </s>⟧\n",
    "names of special tokens are said": (
        "<|user|>\n§<|im_end|>§</s>§<|eot_id|>§<|user|></s>\n<|assistant|>\n⟦§<|im_start|>a</s>⟧\n"
    ),
    "the assistant begins": "<|assistant|>\n⟦Welcome.</s>⟧\n<|user|>\nHi</s>\n<|assistant|>\n⟦Hello!</s>⟧\n",
}

EXPECTED = {"chatml": CHATML, "llama": LLAMA, "alpaca": ALPACA, "plain": PLAIN, "tokenizer": ZEPHYR}
SPECIAL = (
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "</s>"),
)

PUBLISHED = {
    "chatml": (
        "{% for message in messages %}{% if message['role'] == 'assistant' %}<|im_start|>assistant\n"
        "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}{{ '\\n' }}"
        "{% else %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "llama": (
        "{% for message in messages %}<|start_header_id|>{{ message['role'].replace('tool', 'ipython') }}"
        "<|end_header_id|>\n\n"
        "{% if message['role'] == 'assistant' %}"
        "{% generation %}{{ message['content'] | trim }}<|eot_id|>{% endgeneration %}"
        "{% else %}{{ message['content'] | trim }}<|eot_id|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
}
"""The same two as transformers takes them, with answers marked."""
