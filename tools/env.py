"""Create or update the environment in .venv, with the standard library alone.

Runs under whatever `python3` the reader has, so its syntax stays plain enough for an old one to
reach the error message in `check_version`.
"""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "lai-stamp"
OLDEST, NEWEST = (3, 11), (3, 13)


def stop(message: str) -> None:
    sys.exit(f"\nerror: {message}\n")


def trouble(error: OSError, place: Path) -> str:
    """What the system refused, in one sentence with the file and what to do; `place` is where it was if the error does not say."""
    where = error.filename or place
    if error.errno == errno.ENOSPC:
        return f"{where} could not be written because the disk is full; free some space, then run the command again"
    if error.errno == errno.EROFS:
        return f"{where} could not be written because it is in a read-only place; clone the repository into a folder of your own"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{where} may not be read or written by this user; give yourself the permission, "
            "or clone the repository into a folder of your own"
        )
    return f"{where}: {error.strerror or error}"


def check_version() -> None:
    """Stop with directions unless this interpreter is one that the pins support."""
    version = tuple(sys.version_info[:2])
    if OLDEST <= version <= NEWEST:
        return
    names = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    found = [name for name in names if shutil.which(name)]
    hint = f"try: make PYTHON={found[0]} ..." if found else f"install one of {', '.join(names)}"
    stop(f"Python 3.11 to 3.13 is needed; {sys.executable} is {version[0]}.{version[1]}; {hint}")


def wanted() -> str:
    """Where this checkout is, a fingerprint of the two files that decide what is installed, and the interpreter it is for."""
    files = [ROOT / "requirements.txt", ROOT / "pyproject.toml"]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return f"{ROOT}\n{digest}\n{os.path.realpath(str(PYTHON))}"


def stamp() -> str:
    """What was written when .venv was finished; nothing if there is none, or it is another user's and may not be read."""
    try:
        return STAMP.read_text() if PYTHON.exists() else ""
    except OSError:
        return ""


def is_current() -> bool:
    return stamp() == wanted()


def works() -> bool:
    """Whether .venv holds an interpreter of a supported version, with pip, and was made in this place."""
    if stamp() and stamp().split("\n")[0] != str(ROOT):
        return False  # a copied or moved checkout: the environment still points to the old one
    check = f"import sys, pip; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
    try:
        return subprocess.call([str(PYTHON), "-c", check], stderr=subprocess.DEVNULL) == 0
    except OSError:  # no .venv, or a link in it to an interpreter that is gone
        return False


def create() -> None:
    check_version()
    try:
        import ensurepip  # noqa: F401  Debian and Ubuntu leave it out
    except ImportError:
        stop(
            f"{sys.executable} cannot create environments because its venv module is incomplete; "
            "on Debian and Ubuntu install the package python3-venv, then run the command again"
        )
    print(f"creating .venv with {sys.executable}", flush=True)
    shutil.rmtree(str(VENV), ignore_errors=True)
    if VENV.exists() or VENV.is_symlink():
        stop(
            f"{VENV} is not usable and cannot be removed, perhaps because another user made it; remove it, then run the command again"
        )
    if subprocess.call([sys.executable, "-m", "venv", str(VENV)]):
        stop("python -m venv failed; its message is above")


def install() -> None:
    print("installing the pinned packages (some minutes the first time)", flush=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # setuptools is among the pins, so nothing more is fetched to install lai itself.
    own = ["--no-deps", "--no-build-isolation", "--editable", "."]
    for arguments in (["--requirement", "requirements.txt"], own):
        if subprocess.call(pip + arguments, cwd=str(ROOT)):
            stop("pip could not install the packages; its message is above")
    # The evidence is no part of the installed package, and is imported from this checkout.
    where = [str(PYTHON), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.check_output(where, universal_newlines=True).strip()
    (Path(packages) / "lai-book.pth").write_text(f"{ROOT}\n")


def main() -> None:
    if is_current():
        return
    try:
        update()
    except OSError as error:  # a full disk, a checkout that may not be written
        stop(trouble(error, VENV))
    except KeyboardInterrupt:
        stop("interrupted; the next make goes on with the environment")


def update() -> None:
    try:
        import fcntl
    except ImportError:
        stop("this Makefile needs Linux, macOS or WSL")
    with open(str(ROOT / ".venv.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("waiting for another make to finish the environment", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if is_current():
            return
        if not works():
            create()
        STAMP.write_text(f"{ROOT}\n")  # what is installed half-way is not current
        install()
        STAMP.write_text(wanted())


if __name__ == "__main__":
    main()
