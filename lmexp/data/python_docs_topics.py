"""Which part of the standard library does this docstring belong to: texts with labels on every machine, without a
download.

The parts are those of the library's own documentation, joined to eight. The split is that of `python_docs`, by module;
so docstrings of one module never stand on two sides, and what is told apart are subjects and not modules.
"""

import hashlib
from collections.abc import Iterator
from functools import cached_property

from lmexp.config.labels import PythonDocsTopicsConfig
from lmexp.data.labelled import LabelledText, Texts
from lmexp.data.python_docs import PythonDocs, split_of

TOPICS = {
    "concurrency": "asyncio asyncore asynchat concurrent contextvars multiprocessing queue sched selectors signal "
    "subprocess threading _threading_local",
    "data": "bisect calendar codecs collections copy copyreg datetime difflib encodings enum gettext graphlib heapq "
    "locale pprint re reprlib sre_compile sre_constants sre_parse string stringprep struct textwrap types weakref "
    "_weakrefset zoneinfo _strptime _collections_abc",
    "development": "bdb cProfile cgitb code codeop compileall doctest ensurepip faulthandler pdb profile pstats pydoc "
    "timeit trace traceback tracemalloc unittest venv distutils zipapp",
    "files": "_compression _pyio bz2 configparser csv dbm filecmp fileinput fnmatch genericpath glob gzip io linecache "
    "lzma netrc ntpath nturl2path os pathlib pickle pickletools plistlib posixpath shelve shutil sqlite3 stat tarfile "
    "tempfile tomllib zipfile",
    "interfaces": "argparse cmd curses getopt getpass optparse readline rlcompleter shlex tkinter turtle",
    "internet": "base64 cgi email ftplib html http imaplib ipaddress json mailbox mailcap mimetypes nntplib poplib "
    "quopri smtpd smtplib socket socketserver ssl telnetlib urllib uu uuid webbrowser wsgiref xdrlib xml xmlrpc",
    "language": "__future__ abc ast contextlib dataclasses dis functools imp importlib inspect keyword modulefinder "
    "opcode operator pkgutil py_compile pyclbr runpy site symtable sysconfig tabnanny token tokenize typing warnings "
    "zipimport",
    "numbers": "_pydecimal decimal fractions hashlib hmac numbers random secrets statistics colorsys",
}
TOPIC_OF = {module: topic for topic, modules in TOPICS.items() for module in modules.split()}
SHORTEST = 20
"""Characters of a docstring."""
MOST = 40
"""Docstrings of a module, so that a long one does not stand for its whole topic."""


class PythonDocsTopics(Texts):
    """Docstrings, without the name of what they are about."""

    config: PythonDocsTopicsConfig

    @cached_property
    def fingerprint(self) -> str:
        whole = hashlib.blake2b(digest_size=8)
        for split in ("train", "val", "test"):
            for one in self.texts(split):
                whole.update(f"{split}\0{one.label}\0{one.text}\0".encode())
        return whole.hexdigest()

    def texts(self, split: str) -> Iterator[LabelledText]:
        for document, entries in PythonDocs(self.config).entries.items():
            topic = TOPIC_OF.get(document.removeprefix("module ").split(".")[0])
            if topic is None or split_of(document) != split or not document.startswith("module "):
                continue
            long_enough = [(name, text) for _, name, text in entries if len(text) >= SHORTEST]
            for name, text in long_enough[:MOST]:
                yield LabelledText(text, topic, name)
