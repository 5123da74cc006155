"""The command line, `fdistill` and `python -m fdistill`: parsing and printing; results to stdout, all else to stderr."""

import errno
import sys

from fdistill.errors import CheckError, FDistillError

__all__ = ["main"]
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a check failed, 2 bad input (one line says what), 130 interrupted."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    from fdistill.cli.app import app

    try:
        code = app(args=arguments, prog_name="fdistill", standalone_mode=False)
        if code == INTERRUPTED:  # typer's word for Ctrl-C
            raise KeyboardInterrupt
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except CheckError as error:
        return _complain(str(error), 1)
    except FDistillError as error:
        return _complain(str(error), 2)
    except BrokenPipeError:  # the reader of stdout went away, as `head` does
        sys.stderr.close()
        return 0
    except OSError as error:
        return _complain(_line(error), 2)
    except KeyboardInterrupt:
        return _complain("interrupted. The same command goes on where it stopped.", INTERRUPTED)
    except Exception as error:
        if hasattr(error, "format_message"):  # usage errors of typer and click
            text = error.format_message()
            return _complain(f"{text[0].lower() + text[1:] if text else text} (fdistill --help explains)", 2)
        raise


def _line(error: OSError) -> str:
    """One line for what the operating system refused."""
    if error.errno == errno.ENOSPC:
        return f"the disk is full{_at(error)}. Free some space and run the same command again: it goes on where it stopped."
    reason = error.strerror or str(error)
    return f"{reason[0].lower() + reason[1:] if reason else 'cannot read or write'}{_at(error)}."


def _at(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""


def _complain(text: str, code: int) -> int:
    print(f"fdistill: {' '.join(text.split())}", file=sys.stderr)
    return code
