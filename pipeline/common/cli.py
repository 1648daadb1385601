"""The command line of every script, built from the settings block at its top."""

import argparse
import difflib
import errno
import gc
import io
import math
import os
import sys
import tokenize
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pipeline.common.processes import (
    is_main_process,
    let_the_main_process_end,
    unsupported_launch,
)

# After how many new lists and the like Python looks for circles among them. Rows are many lists and
# no circle: at Python's own 700, it looks for a sixth of the time of step 1.
NEW_CONTAINERS = 100_000
LONGEST_ERROR = 1_000  # characters; a cell or a header that it quotes may have millions
FULL = ": a disk is full, perhaps that of the log or of the folder for temporary files"
FULL += ": free some space, and run the same command again"
UNFORESEEN = {  # faults of the machine, and the cure
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EIO: ": a disk fails or went away: look after it, and run the same command again",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM),
        ": close it in other programs, such as Excel, and check that this account may read it",
    ),
    errno.EPIPE: ": what it prints to was closed: run the same command again without `| head`",
}


class UserError(Exception):
    """A mistake that the user can mend: shown as one line, exit status 1.

    What cannot be printed is spelled out, and a long text loses its middle.
    """

    def __init__(self, message: str) -> None:
        if len(message) > LONGEST_ERROR:
            message = f"{message[: LONGEST_ERROR // 2]} [...] {message[-LONGEST_ERROR // 2 :]}"
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


def parse_settings(script: dict[str, Any], argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the settings of a script, as its constants or the command line say.

    `script` is the script's `globals()`. Each constant between its two rule lines becomes an
    option of the default's type with the trailing comment as its help: `BATCH_SIZE = 32` is
    `--batch-size`, read as `settings.batch_size`; a bool is `--x/--no-x`. A mistyped option or
    value ends the program with one line and status 2. Overridden values are printed.

    `STUDY` is the folder of a study: all default paths (`./...`) but those of models lie in it. A
    path given on the command line is taken as it stands.
    """
    prog = Path(script["__file__"]).name
    parser = argparse.ArgumentParser(
        prog=prog,
        description=script["__doc__"],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage=f"python {prog} [options]",
    )

    def mistyped(message: str) -> NoReturn:
        let_the_main_process_end()
        parser.exit(2, f"{prog}: {message} (try --help)\n")

    parser.error = mistyped
    source = Path(script["__file__"]).read_text(encoding="utf-8")
    comments = settings_block(source)
    for name, comment in comments.items():
        default = script[name]
        kind = (
            {"action": argparse.BooleanOptionalAction}
            if isinstance(default, bool)
            else {"type": type(default), "metavar": type(default).__name__.upper()}
        )
        shown = default if default != "" else "none"
        help_text = f"{comment} (default: {shown})".replace("%", "%%")
        parser.add_argument(option_of(name), default=argparse.SUPPRESS, help=help_text, **kind)

    given, unknown = parser.parse_known_args(argv)
    if unknown:
        known = [option for action in parser._actions for option in action.option_strings]
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        parser.error(f"unknown option {unknown[0]}{hint}")
    study = getattr(given, "study", script.get("STUDY", "."))
    settings = argparse.Namespace()
    for name in comments:
        default = in_study(study, name, script[name])
        value = getattr(given, name.lower(), default)
        if is_path(script[name]):
            value = with_slashes(value)
        if isinstance(value, int | float) and value < 0:
            parser.error(f"argument {option_of(name)}: {value} is below 0")
        if isinstance(value, float) and not math.isfinite(value):
            parser.error(f"argument {option_of(name)}: {value} is not a finite number")
        if value != default or (name == "STUDY" and value != script[name]):
            print(f"setting {name} = {value!r} (default {script[name]!r})")
        setattr(settings, name.lower(), value)
    return settings


def in_study(study: str, name: str, default: Any) -> Any:
    """Return a setting's default; a path of the study (`./...`) as the path in its folder."""
    if study == "." or name == "MODEL_PATH" or not is_path(default):
        return default
    return (Path(study) / default).as_posix()


def is_path(default: Any) -> bool:
    """Return whether a setting holds a path, as its default says."""
    return isinstance(default, str) and default.startswith("./")


def with_slashes(path: str, separator: str = os.sep) -> str:
    """Return a path as every system reads it, so that records of one study can be compared."""
    return path.replace(separator, "/")


def at_least_one(settings: dict[str, Any], *names: str) -> None:
    """Refuse 0 where a setting counts what there must be one of."""
    for name in names:
        if settings[name] < 1:
            raise UserError(f"{option_of(name)} {settings[name]}: give at least 1")


def settings_block(source: str) -> dict[str, str]:
    """Return name -> trailing comment of the constants between a script's two rule lines."""
    comments: dict[str, str] = {}
    name, inside = "", False
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.string.startswith("# -----"):
            inside = not inside
        elif inside and token.type == tokenize.NAME and token.start[1] == 0:
            name = token.string
            comments[name] = ""
        elif inside and token.type == tokenize.COMMENT and token.start[1] > 0:
            comments[name] = token.string.lstrip("# ")
    return comments


def option_of(name: str) -> str:
    """Return the command-line option of a constant."""
    return "--" + name.lower().replace("_", "-")


@dataclass(frozen=True)
class Script:
    """The script that `run` runs: what it has claimed is released by `until_end`."""

    name: str
    until_end: ExitStack
    claimed: set[Path] = field(default_factory=set)


_running: list[Script] = []


def running() -> Script | None:
    """Return the script that `run` runs, None where a `main` was called by other means."""
    return _running[-1] if _running else None


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; a user's mistake becomes one line on stderr and exit status 1.

    So does a fault of the machine that no writer of files foresaw, as where the log that is printed
    to lies on a full disk. What a terminal or a log file in another encoding than UTF-8 cannot show
    is printed as "?". Of several processes only the main one prints.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's is none, and takes any text
            stream.reconfigure(errors="replace")
    if not is_main_process():
        sys.stdout = io.StringIO()
        warnings.simplefilter("ignore")
    gc.set_threshold(NEW_CONTAINERS)
    name = Path(sys.argv[0]).name
    try:
        if reason := unsupported_launch():
            raise UserError(reason)
        with ExitStack() as until_end:
            _running.append(Script(name, until_end))
            until_end.callback(_running.pop)
            main()
        sys.stdout.flush()
    except UserError as error:
        let_the_main_process_end()
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.errno not in UNFORESEEN:
            raise
        sys.stdout = io.StringIO()  # what was not printed would fail again at the end
        of = f" ({error.filename})" if error.filename else ""
        sys.exit(f"{name}: {error.strerror}{of}{UNFORESEEN[error.errno]}")
