"""Text from a language model, token by token, with the state that the model keeps."""

from lmexp.generation.sampling import Sampling as Sampling
from lmexp.generation.sampling import generate as generate
from lmexp.generation.sampling import stream as stream
from lmexp.generation.sampling import write as write
