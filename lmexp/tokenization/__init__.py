"""Text to ids and back, and files of ids.

Every tokenizer but `words` gives back exactly the text that went in. A tokenizer is learned from the training split
only, stored with the run as one JSON file, and known by the hash of that file's content.
"""

from lmexp.tokenization.base import Document as Document
from lmexp.tokenization.base import Tokenizer as Tokenizer
from lmexp.tokenization.base import learn as learn
from lmexp.tokenization.base import load as load
from lmexp.tokenization.base import pieces as pieces
from lmexp.tokenization.base import with_special_tokens as with_special_tokens
from lmexp.tokenization.token_files import TokenFile as TokenFile
