"""Log output of the command line: one readable line per step on standard error, or JSON lines."""

import json
import logging
import sys
from datetime import UTC, datetime

QUIET = ("azure", "aiohttp", "asyncio", "httpx", "httpcore", "msal", "urllib3")


class _ReadableLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        name = "" if record.name.startswith("local.host") else f"{record.name}: "
        level = "" if record.levelno <= logging.INFO else f"{record.levelname} "
        text = f"{moment} {level}{name}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"), "level": record.levelname,
            "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(*, json_lines: bool, colour: bool = False) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if json_lines else _ReadableLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
