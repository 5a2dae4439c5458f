"""Draws docs/quality.svg from the table of the README that benches/quality.py prints the figures of.

    python docs/picture.py [--check]

For each row of the table "multiply-accumulates left, before, after": what is left of the multiply-accumulates, and what
is left of the quality, both in per cent of the original's. With --check nothing is written; exit code 1 if the picture is
not that of the table.
"""

import argparse
import html
import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
README, PICTURE = REPOSITORY / "README.md", REPOSITORY / "docs" / "quality.svg"
ROW = re.compile(r"^\| (?P<model>[^|]+?) \| (?P<macs>0?\.\d+) \| (?P<before>[\d.]+) ?%? \| (?P<after>[\d.]+) ?%? \|", re.M)
HEADER = "| model | multiply-accumulates left | before | after |"
LEFT, SCALE, RIGHT, TOP, STEP, BAR = 250, 4.2, 190, 56, 46, 13
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .small { font-size: 11px; fill: #57606a }
  .macs { fill: #8c959f }
  .quality { fill: #0969da }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .paper { fill: #ffffff }
"""


def rows(text):
    """(model, share of the multiply-accumulates, quality before, after, texts of these) of each row."""
    table = text[text.index(HEADER) :].split("\n\n")[0]
    for match in ROW.finditer(table):
        before, after = float(match["before"]), float(match["after"])
        said = " → ".join(part.strip() for part in match[0].strip("| ").split(" | ")[2:])
        yield match["model"].replace("`", "").replace("fixtures/", ""), float(match["macs"]), before, after, said


def picture(entries):
    """The text of the picture."""
    width, height = LEFT + 100 * SCALE + RIGHT, TOP + STEP * len(entries) + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        "<title>What is left after pruning: multiply-accumulates and quality, in per cent of the original</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{width:.0f}" height="{height:.0f}"/>',
        f'<rect class="macs" x="{LEFT}" y="12" width="12" height="12"/>',
        f'<text x="{LEFT + 18}" y="23">multiply-accumulates left</text>',
        f'<rect class="quality" x="{LEFT + 205}" y="12" width="12" height="12"/>',
        f'<text x="{LEFT + 223}" y="23">quality left (top-1 accuracy or rank correlation)</text>',
    ]
    for share in range(0, 101, 25):
        x = LEFT + share * SCALE
        lines.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP - 10}" x2="{x:.1f}" y2="{height - 14}"/>')
        lines.append(f'<text class="small" x="{x:.1f}" y="{height - 2}" text-anchor="middle">{share} %</text>')
    for number, (model, macs, before, after, said) in enumerate(entries):
        y = TOP + STEP * number
        kept = 100 * after / before
        lines += [
            f'<text x="{LEFT - 12}" y="{y + 18}" text-anchor="end">{html.escape(model)}</text>',
            f'<rect class="macs" x="{LEFT}" y="{y}" width="{100 * macs * SCALE:.1f}" height="{BAR}"/>',
            f'<text class="small" x="{LEFT + 100 * macs * SCALE + 6:.1f}" y="{y + 11}">{100 * macs:.0f} %</text>',
            f'<rect class="quality" x="{LEFT}" y="{y + BAR + 2}" width="{kept * SCALE:.1f}" height="{BAR}"/>',
            f'<text class="small" x="{LEFT + 100 * SCALE + 10:.1f}" y="{y + BAR + 13}">{html.escape(said)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    entries = list(rows(README.read_text(encoding="utf-8")))
    if not entries:
        sys.exit("the README has no such table")
    text = picture(entries)
    if parser.parse_args().check:
        return 0 if PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == text else 1
    PICTURE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
