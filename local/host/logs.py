"""Log output of the command line on standard error, as readable lines or JSON lines."""

import json
import logging
import sys
from datetime import UTC, datetime

HOST_PACKAGE = __name__.rpartition(".")[0]
WARNING_ONLY_LOGGERS = ("azure", "aiohttp", "asyncio", "httpx", "httpcore", "msal", "urllib3")


_GREY, _RED, _YELLOW, _GREEN, _RESET = "\033[2m", "\033[31m", "\033[33m", "\033[32m", "\033[0m"
_STATUS_COLOURS = {"Completed": _GREEN, "Failed": _RED, "Terminated": _YELLOW, "Suspended": _YELLOW}


class _ReadableLines(logging.Formatter):
    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        name = "" if record.name.startswith(HOST_PACKAGE) else f"{record.name}: "
        level = "" if record.levelno <= logging.INFO else f"{record.levelname} "
        text = f"{level}{name}{record.getMessage()}"
        if record.exc_info:
            text += f"\n{self.formatException(record.exc_info)}"
        if not self._colour:
            return f"{moment} {text}"
        colour = _STATUS_COLOURS.get(getattr(record, "fields", {}).get("status", ""), "")
        if record.levelno >= logging.WARNING:
            colour = _RED if record.levelno >= logging.ERROR else _YELLOW
        return f"{_GREY}{moment}{_RESET} {colour}{text}{_RESET}"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(*, json_lines: bool, colour: bool = False) -> None:
    """Configure logging to standard error.

    JSON lines also contain the fields of a step or an activity, such as the instance ID.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if json_lines else _ReadableLines(colour=colour))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in WARNING_ONLY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
