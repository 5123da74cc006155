"""Teacher samples made once, before training, and kept on disk.

Chapters: reader (TeacherStore), builder (build_store), shards (files and their safety), fingerprints (whose store is it).
"""

from fdistill.store.builder import build_store
from fdistill.store.fingerprints import model_fingerprint, text_fingerprint, tokenizer_fingerprint
from fdistill.store.reader import StoredDraw, TeacherStore

__all__ = [
    "StoredDraw",
    "TeacherStore",
    "build_store",
    "model_fingerprint",
    "text_fingerprint",
    "tokenizer_fingerprint",
]
