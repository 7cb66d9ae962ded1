"""Office files by LibreOffice: a process of its own without macros, network or anybody's settings, its end enforced.

Knows how LibreOffice is found, started and stopped; nothing of what stands in the files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ingest import confine
from ingest.sheets import make_readable
from mmrag.errors import EncryptedFile, UnreadableFile

SECONDS = 120.0
"""A file that takes longer is given up."""

_PROGRAMS = (
    "soffice",
    "libreoffice",
    "/Applications/LibreOffice.app/Contents/MacOS/soffice",
    r"C:\Program Files\LibreOffice\program\soffice.com",
)
_ZIP, _OLE, _RTF = b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"{\\rtf"
_LOCKED = "The file is encrypted: save a copy without its password and ingest that."
# No macro runs; what a document links to (pictures, sections, other sheets) is not opened, be it here or elsewhere. The
# proxy, where nobody listens, is for what might get past that; so is `ingest.confine`, where the system allows it.
_CHOICES = (
    ("Office.Common/Security/Scripting", "BlockUntrustedRefererLinks", "true"),
    ("Office.Common/Security/Scripting", "DisableMacrosExecution", "true"),
    ("Office.Common/Security/Scripting", "MacroSecurityLevel", "3"),
    ("Office.Calc/Content/Update", "Link", "2"),
    ("Office.Writer/Content/Update", "Link", "0"),
    ("Inet/Settings", "ooInetProxyType", "2"),
    ("Inet/Settings", "ooInetHTTPProxyName", "127.0.0.1"),
    ("Inet/Settings", "ooInetHTTPProxyPort", "9"),
    ("Inet/Settings", "ooInetHTTPSProxyName", "127.0.0.1"),
    ("Inet/Settings", "ooInetHTTPSProxyPort", "9"),
    ("Inet/Settings", "ooInetNoProxy", ""),
)
_PACKED = (".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp")
_SHEETS = (".xlsx", ".xls", ".ods")


def convert(path: Path, target: Path, memory: int) -> None:
    """Write the PDF `target`; each process may take `memory` bytes (kept to on Linux only).

    Raises UnreadableFile or EncryptedFile with a sentence for the report.
    """
    program = find_program()
    if program is None:
        raise UnreadableFile(
            f"{path.suffix[1:].upper()} files need LibreOffice: install it (https://www.libreoffice.org, or  "
            "apt install libreoffice), or save the file as PDF and ingest that."
        )
    _check(path)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # A name of our own: the file's might be taken for an option or a pattern.
        source = Path(shutil.copyfile(path, Path(folder, f"source{path.suffix.lower()}")))
        if source.suffix not in _PACKED:
            _stop_fields(source)
        if source.suffix in _SHEETS:
            source = _run(program, source, "fods", memory)
            make_readable(source)
        shutil.move(_run(program, source, "pdf", memory), target)


def find_program() -> str | None:
    return next((found for name in _PROGRAMS if (found := shutil.which(name))), None)


def _check(path: Path) -> None:
    """LibreOffice goes by what it finds, not by the name: only what the name says shall reach it."""
    with path.open("rb") as file:
        start = file.read(8)
    is_packed = path.suffix.lower() in _PACKED
    if is_packed and start.startswith(_OLE):  # where Microsoft's programs put a packed file with a password
        raise EncryptedFile(_LOCKED)
    if not start.startswith((_ZIP,) if is_packed else (_OLE, _RTF)):
        raise UnreadableFile("The file is damaged or not of the kind that its name says: save it anew.")
    if is_packed and _is_locked(path):
        raise EncryptedFile(_LOCKED)


def _is_locked(path: Path) -> bool:
    """As OpenDocument files tell it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return b"encryption-data" in archive.read("META-INF/manifest.xml")
    except KeyError:
        return False
    except Exception as error:  # zipfile reports damage in many ways
        raise UnreadableFile("The file is damaged: open it in its program and save it anew.") from error


def _stop_fields(source: Path) -> None:
    """LibreOffice obeys a field of RTF that names a picture on this disk; what the field showed last stays."""
    content = source.read_bytes()
    if content.startswith(_RTF):
        source.write_bytes(content.replace(rb"\fldinst", rb"\fldnone"))


def _run(program: str, source: Path, kind: str, memory: int) -> Path:
    """`source` as a file of another kind, beside it."""
    profile = source.parent / "profile"
    _write_choices(profile / "user" / "registrymodifications.xcu")
    command = [program, "--headless", "--norestore", "--nologo", "--nodefault", "--nolockcheck"]
    command += [f"-env:UserInstallation={profile.as_uri()}", "--convert-to", kind, "--outdir", str(source.parent)]
    if sys.platform == "linux" and not Path(program).resolve().is_relative_to("/snap"):  # which confines itself
        command = [sys.executable, "-I", str(confine.__file__), str(source.parent), str(memory), *command]
    process = subprocess.Popen(  # noqa: S603  # found on the path, and given names of our own
        [*command, str(source)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"HOME": str(profile), "TMPDIR": str(source.parent)},
    )
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired as error:
        raise UnreadableFile(
            f"LibreOffice took more than {SECONDS:.0f} s over the file: split it, or save it as PDF."
        ) from error
    finally:
        _end(process)
    result = source.with_suffix(f".{kind}")
    if not result.is_file():
        raise UnreadableFile("LibreOffice cannot read the file: open it in its program and save it anew, or as PDF.")
    return result


def _end(process: subprocess.Popen[bytes]) -> None:
    """The program is a script that starts others: all of them."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _write_choices(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    items = (
        f'<item oor:path="/org.openoffice.{place}"><prop oor:name="{name}" oor:op="fuse"><value>{value}</value></prop>'
        "</item>"
        for place, name, value in _CHOICES
    )
    head = '<?xml version="1.0" encoding="UTF-8"?><oor:items xmlns:oor="http://openoffice.org/2001/registry">'
    path.write_text(f"{head}{''.join(items)}</oor:items>", encoding="utf-8")
