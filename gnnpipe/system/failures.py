"""Words for an OSError: the reason, the file, and a way out."""

from __future__ import annotations

import errno

from gnnpipe.errors import shown

_ADVICE = {
    errno.ENOSPC: "make room there, or name another place",
    errno.EDQUOT: "make room in your quota, or name another place",
    errno.EACCES: "name a place that you may read and write, or change its mode",
    errno.EPERM: "name a place that is yours",
    errno.EROFS: "name a place that can be written to",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ELOOP: "put what it leads to there, or name another place",
    errno.EISDIR: "move that folder away, or name another place",
    errno.ENOTDIR: "a file stands where a folder should; move it away, or name another place",
    errno.EEXIST: "move what stands there away, or name another place",
    errno.ENOENT: "check the name, or bring it back",
    errno.EMFILE: "raise the number of open files (ulimit -n)",
    errno.ENFILE: "close what holds so many files open",
    errno.EMLINK: "name another place",
    errno.EFBIG: "bring the true file back, or raise the limit on what may be written (ulimit -f)",
    errno.ESTALE: "the network's file system has lost it; name it again, or another place",
    errno.EIO: "the disk or the network behind it fails; name another place",
}


def reason(error: OSError, beside: str = "") -> str:
    """The system's reason, and the file it names unless that is ``beside``, which the message has already."""
    text = shown(error.strerror or str(error) or type(error).__name__)
    name = error.filename2 or error.filename
    return text if name is None or str(name) == beside else f"{text}: '{shown(str(name))}'"


def advice(error: OSError, otherwise: str = "name another place") -> str:
    """Advice for the error's number; ``otherwise`` for a number that the table lacks."""
    return _ADVICE.get(error.errno or 0, otherwise)
