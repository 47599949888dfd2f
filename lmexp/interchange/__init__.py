"""Models from elsewhere and for elsewhere: folders that transformers reads, and safetensors that anyone can.

`family` says what a published architecture is; `llama`, `gpt2` and `bert` hold one each (plain data: none of it needs
transformers); `convert` moves the tensors. `exporting` makes a folder of a run, `importing` a run of a folder.
"""
