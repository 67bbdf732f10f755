"""`make demo-picture`: films a real demo and writes docs/images/demo.svg, the picture of the first page.

The frames are what a terminal shows while the demo runs, then its report. An animation in CSS alone: no script, no font and
nothing else is fetched. Where nothing moves (print, reduced motion), it is the report.
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
from local.demo import DemoError, landing_verifier, look_at, looks, report, tie_outs, verdict
from local.stack import NEVER_SCHEDULE, StackError, exit_on_signals, run_stack
from partner_billing.progress import Progress

PICTURE = ROOT / "docs" / "images" / "demo.svg"
WIDTH, FRAMES = 126, 8
FRAME_SECONDS, REPORT_SECONDS = 1.1, 9.0
FORMAT = re.sub(
    r"@font-face \{\{.*?\}\}\s*|<!--.*?-->", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL
).replace("Fira Code, ", "")
SIZE = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')


class Paper(Console):
    """Records what is printed; long lines are wrapped, for a picture cannot be scrolled."""

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


def terminal() -> Paper:
    """One in which `make demo` was typed."""
    paper = Paper()
    paper.print(Text("$ make demo\n", style="bold"))
    return paper


def film() -> list[Paper]:
    """The demo from its start to its report, as it happens. Raises StackError where it does not prove what landed."""
    shots: list[Paper] = []
    with (
        run_stack(
            ROOT / ".state" / "picture", fresh=True, settings={"EXPORT_SCHEDULE": NEVER_SCHEDULE}
        ) as stack,
        httpx.Client(base_url=stack.app_url, timeout=30) as api,
    ):
        started = api.post("/api/cycles", json={}).raise_for_status()
        progress = Progress(Console(file=io.StringIO()))
        for cycle in looks(api, started.headers["Location"], stack):
            shots.append(terminal())
            shots[-1].print(progress.table(cycle["runs"]))
            if cycle["state"] in ("ended", "failed"):
                break
        runs, tied_out, auditor = cycle["runs"], tie_outs(stack), landing_verifier(stack)
        found = {str(run["run_id"]): look_at(run, auditor) for run in runs}
    last = terminal()
    report(last, runs, tied_out)
    if not verdict(last, runs, found):
        raise StackError(
            "The demo did not prove what it landed, so there is no picture of it: make demo"
        )
    return [*spread(shots, FRAMES), last]


def spread(shots: Sequence[Paper], count: int) -> list[Paper]:
    """At most so many of them, first and last included."""
    if len(shots) <= count:
        return list(shots)
    return [shots[round(index * (len(shots) - 1) / (count - 1))] for index in range(count)]


def animated(shots: Sequence[Paper]) -> str:
    """One SVG: each shot in its turn, the last one for longer."""
    lines = max(len(paper.export_text(clear=False).splitlines()) for paper in shots)
    drawings = []
    for number, paper in enumerate(shots):
        paper.print("\n" * (lines - len(paper.export_text(clear=False).splitlines())), end="")
        drawings.append(
            paper.export_svg(
                title="Partner Billing Export", code_format=FORMAT, unique_id=f"shot{number}"
            )
        )
    width, height = (
        max(float(found[side]) for found in map(SIZE.search, drawings) if found) for side in (1, 2)
    )
    total = FRAME_SECONDS * (len(shots) - 1) + REPORT_SECONDS
    styles, frames = [], []
    for number, drawing in enumerate(drawings):
        is_last = number == len(drawings) - 1
        begin = 100 * FRAME_SECONDS * number / total
        end = 100 if is_last else 100 * FRAME_SECONDS * (number + 1) / total
        styles.append(
            f"@keyframes turn{number} {{ 0% {{ opacity: {int(number == 0)} }} {begin:.2f}% {{ opacity: 1 }} "
            f"{end:.2f}%, 100% {{ opacity: {int(is_last)} }} }}\n"
            f".turn{number} {{ opacity: {int(is_last)}; animation: turn{number} {total:.1f}s step-end infinite }}"
        )
        frames.append(f'<g class="turn{number}">{drawing}</g>')
    return "\n".join(
        [
            f'<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">',
            "<title>make demo: all four datasets are asked for, waited for, copied and proven</title>",
            "<style>",
            *styles,
            '@media (prefers-reduced-motion: reduce) { g[class^="turn"] { animation: none } }',
            "</style>",
            *frames,
            "</svg>",
            "",
        ]
    )


def main() -> int:
    exit_on_signals()
    try:
        shots = film()
    except (StackError, DemoError) as failed:
        print(failed, file=sys.stderr)
        return 1
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(animated(shots), encoding="utf-8")
    print(
        f"{PICTURE.relative_to(ROOT)}: {len(shots)} frames, {PICTURE.stat().st_size / 1000:.0f} kB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
