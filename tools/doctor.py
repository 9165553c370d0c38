"""What this machine has for the book: a line for each thing, OK or FAIL with the remedy, to paste into a report.

Needs nothing but the standard library, because .venv is one of the things that may be broken; it installs and changes nothing.
Its syntax stays that of Python 3.6, so that an old one reaches the line that says so.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import env  # type: ignore[import-not-found]  # it stands beside this program

ROOT = env.ROOT
Line = tuple
"""What was looked at, what was found, and the remedy if that will not do."""

SPACE = 10.0  # GB: packages with CUDA take seven, a build of the book under one
MEMORY = 4.0  # GB: two chapters side by side


def lines() -> list:
    looks = (system, python, git, venv, torch, compiler, cores, threads, memory, disk, home, data, browser)
    return [look() for look in looks]


def system() -> Line:
    return "system", f"{platform.system()} {platform.release()} {platform.machine()}", ""


def python() -> Line:
    good = env.OLDEST <= sys.version_info[:2] <= env.NEWEST
    remedy = "" if good else "install Python 3.11 to 3.13 and name it: make PYTHON=python3.12 ..."
    return "Python", f"{platform.python_version()} at {sys.executable}", remedy


def git() -> Line:
    found = shutil.which("git")
    return "git", output(found, "--version") if found else "none; not needed to build the book", ""


def venv() -> Line:
    if env.is_current():
        return ".venv", "as requirements.txt has it", ""
    found = "not of these requirements, or not usable here" if os.path.lexists(env.VENV) else "none"
    return ".venv", found, "run make env"


def torch() -> Line:
    code = (
        "import torch; gpu = torch.cuda.is_available();"
        "print(torch.__version__, 'with', torch.cuda.get_device_name() if gpu else 'no GPU, which is never needed')"
    )
    found = output(str(env.PYTHON), "-c", code)
    remedy = "remove .venv, then run make env" if env.is_current() else "run make env"
    return "torch", found or "cannot be imported by .venv", "" if found else remedy


def compiler() -> Line:
    """torch.compile wants one; without it the same programs run uncompiled."""
    found = first("g++", "clang++", "c++")
    if not found:
        return "compiler", "none: training side by side is slower, with the same results", ""
    return "compiler", output(found, "--version").split("\n")[0] or found, ""


def cores() -> Line:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return "cores", f"{count}", ""


def threads() -> Line:
    found = os.environ.get("OMP_NUM_THREADS", "1")
    good = found.isdecimal() and 1 <= int(found) <= 999
    return "threads", "OMP_NUM_THREADS=" + found, "" if good else "set a whole number from 1 to 999, or none for 1"


def memory() -> Line:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError):
        return "memory", "unknown", ""
    try:  # a container may have less than its machine
        size = min(size, int(Path("/sys/fs/cgroup/memory.max").read_text()) / 1e9)
    except (OSError, ValueError):
        pass
    return "memory", f"{size:.1f} GB", "" if size >= MEMORY else f"{MEMORY:.0f} GB are needed; close other programs"


def disk() -> Line:
    if not os.access(ROOT, os.W_OK):
        return "disk", f"{ROOT} may not be written", "clone the repository into a folder of your own"
    free = shutil.disk_usage(ROOT).free / 1e9
    needed = 1.0 if env.is_current() else SPACE
    return "disk", f"{free:.1f} GB free", "" if free >= needed else f"{needed:.0f} GB are needed"


def home() -> Line:
    try:
        folder = Path.home()
    except RuntimeError:
        return "home", "none known; temporary folders are used", ""
    writable = os.access(folder, os.W_OK)
    return "home", f"{folder}{'' if writable else ', not writable; temporary folders are used'}", ""


def data() -> Line:
    setting = os.environ.get("LAI_DATA", "").strip()
    if setting.lower() == "none":
        return "data", "the embedded generator (LAI_DATA=none)", ""
    try:
        folder = Path(setting).expanduser() if setting else ROOT / "data" / "playground-series-s3e1"
    except RuntimeError:
        return "data", f"LAI_DATA={setting}, a home folder that is not known", "give the whole path"
    if not setting and not folder.is_dir():
        return "data", "the embedded generator; Kaggle's files are not there, and not needed", ""
    missing = [name for name in ("train.csv", "test.csv") if not (folder / name).is_file()]
    remedy = "download them (README, The data), or set LAI_DATA=none"
    return "data", f"{folder}{' lacks ' if missing else ''}{' and '.join(missing)}", remedy if missing else ""


def browser() -> Line:
    found = first("chromium", "chromium-browser", "google-chrome")
    return "browser", found or "no Chromium: make test skips what needs one", ""


def first(*names: str) -> str:
    """Where the first of some programs is that is installed; nothing if none is."""
    return next(filter(None, map(shutil.which, names)), "")


def output(*command: str) -> str:
    """What a program prints; nothing if it fails."""
    null = subprocess.DEVNULL
    try:
        return subprocess.check_output(
            command, cwd=str(ROOT), stdin=null, stderr=null, universal_newlines=True, timeout=120
        ).strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def main() -> int:
    found = lines()
    for name, what, remedy in found:
        print(f"{'FAIL' if remedy else 'OK  '}  {name:<9} {what}{f'; {remedy}' if remedy else ''}")
    return 1 if any(remedy for *_, remedy in found) else 0


if __name__ == "__main__":
    sys.exit(main())
