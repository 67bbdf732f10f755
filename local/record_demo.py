"""`make demo-picture`: records a demo and writes docs/images/demo.svg for the README.

The frames show the terminal during the demo, followed by the report. The animation uses only CSS;
it needs no script and loads no font or other resource. In print and with reduced motion, the image
shows the report.
"""

import io
import re
import sys
from collections.abc import Sequence
from typing import Any

import httpx
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from local.azurite import ROOT
from local.demo import (
    DemoError,
    describe_tie_outs,
    poll_cycle,
    print_report,
    print_verdict,
    verify_runs,
)
from local.stack import NEVER_SCHEDULE, StackError, exit_on_signals, run_stack
from partner_billing.progress import Progress

IMAGE = ROOT / "docs" / "images" / "demo.svg"
WIDTH, MAX_FRAMES = 126, 8
FRAME_SECONDS, REPORT_SECONDS = 1.1, 9.0
FORMAT = re.sub(
    r"@font-face \{\{.*?\}\}\s*|<!--.*?-->", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL
).replace("Fira Code, ", "")
SIZE = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')


class RecordingConsole(Console):
    """Records the printed text and wraps long lines, because an image cannot be scrolled."""

    def __init__(self) -> None:
        super().__init__(
            record=True,
            width=WIDTH,
            file=io.StringIO(),
            force_terminal=True,
            color_system="truecolor",
        )

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **(options | {"soft_wrap": False}))


def create_terminal() -> RecordingConsole:
    """Return a console that shows the command `make demo`."""
    console = RecordingConsole()
    console.print(Text("$ make demo\n", style="bold"))
    return console


def record_frames() -> list[RecordingConsole]:
    """Run the demo and return its frames, ending with the report.

    Raises:
        StackError: The stack failed, or the landed files could not be verified.
    """
    frames: list[RecordingConsole] = []
    with (
        run_stack(
            ROOT / ".state" / "record-demo",
            fresh=True,
            settings={"EXPORT_SCHEDULE": NEVER_SCHEDULE},
        ) as stack,
        httpx.Client(base_url=stack.app_url, timeout=30) as api,
    ):
        started = api.post("/api/cycles", json={}).raise_for_status()
        progress = Progress(Console(file=io.StringIO()))
        for cycle in poll_cycle(api, started.headers["Location"], stack):
            frames.append(create_terminal())
            frames[-1].print(progress.table(cycle["runs"]))
            if cycle["state"] in ("ended", "failed"):
                break
        runs, invoice_totals = cycle["runs"], describe_tie_outs(stack)
        results = verify_runs(stack, runs)
    report = create_terminal()
    print_report(report, runs, invoice_totals)
    if not print_verdict(report, runs, results):
        raise StackError(
            "The demo could not verify the landed data, so no image was written. Run `make demo`."
        )
    return [*select_frames(frames, MAX_FRAMES), report]


def select_frames(frames: Sequence[RecordingConsole], max_frames: int) -> list[RecordingConsole]:
    """Return at most `max_frames` evenly spaced frames, including the first and the last."""
    if len(frames) <= max_frames:
        return list(frames)
    step = (len(frames) - 1) / (max_frames - 1)
    return [frames[round(index * step)] for index in range(max_frames)]


def animate(frames: Sequence[RecordingConsole]) -> str:
    """Return an SVG that shows the frames in a loop and the last frame for REPORT_SECONDS."""
    lines = max(len(frame.export_text(clear=False).splitlines()) for frame in frames)
    drawings = []
    for number, frame in enumerate(frames):
        for _ in range(lines - len(frame.export_text(clear=False).splitlines())):
            frame.print()
        drawings.append(
            frame.export_svg(
                title="Partner Billing Export", code_format=FORMAT, unique_id=f"frame{number}"
            )
        )
    width, height = (
        max(float(size[side]) for size in map(SIZE.search, drawings) if size) for side in (1, 2)
    )
    total = FRAME_SECONDS * (len(frames) - 1) + REPORT_SECONDS
    styles, groups = [], []
    for number, drawing in enumerate(drawings):
        is_last = number == len(drawings) - 1
        start = 100 * FRAME_SECONDS * number / total
        end = 100 if is_last else 100 * FRAME_SECONDS * (number + 1) / total
        styles.append(
            f"@keyframes turn{number} {{ 0% {{ opacity: {int(number == 0)} }} "
            f"{start:.2f}% {{ opacity: 1 }} {end:.2f}%, 100% {{ opacity: {int(is_last)} }} }}\n"
            f".turn{number} {{ opacity: {int(is_last)}; "
            f"animation: turn{number} {total:.1f}s step-end infinite }}"
        )
        groups.append(f'<g class="turn{number}">{drawing}</g>')
    return "\n".join(
        [
            f'<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">',
            "<title>make demo: exports, copies and verifies all four datasets</title>",
            "<style>",
            *styles,
            '@media (prefers-reduced-motion: reduce) { g[class^="turn"] { animation: none } }',
            "</style>",
            *groups,
            "</svg>",
            "",
        ]
    )


def main() -> int:
    """Record a demo, write the image and return the exit code."""
    exit_on_signals()
    try:
        frames = record_frames()
    except (StackError, DemoError) as error:
        print(error, file=sys.stderr)
        return 1
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    IMAGE.write_text(animate(frames), encoding="utf-8")
    print(f"{IMAGE.relative_to(ROOT)}: {len(frames)} frames, {IMAGE.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
