"""The page: headings, pictures and tables in one self-contained file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bayesinv.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ASSETS = Path(__file__).parent / "assets"

DOTS_PER_INCH = 140
"""Resolution of pictures."""


class Page:
    """A page that grows by sections, and the pictures on it."""

    def __init__(self) -> None:
        self.body: list[str] = []
        self.pictures: dict[str, bytes] = {}

    def section(self, heading: str, *parts: str) -> None:
        """Add a heading, which is escaped, and below it HTML, which is not."""
        self.body.append(f"<h2>{escape(heading)}</h2>{''.join(parts)}")

    def picture(self, name: str, figure: Figure, caption: str, alt: str | None = None) -> str:
        """Return a picture with its caption as HTML, and keep it as a file of that name.

        alt : alternative text; None takes the caption
        """
        self.pictures[name], small = pixels(figure)
        coded = base64.b64encode(small).decode()
        words = escape(caption if alt is None else alt)
        return (
            f'<figure><div class="wide"><img src="data:image/webp;base64,{coded}" alt="{words}"></div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def write(self, folder: Path, name: str, title: str, prefix: str = "") -> Path:
        """Write the pictures, and last the page; each file is renamed into place when it is complete.

        folder : made if it is not there
        prefix : before the name of every file
        """
        style = (ASSETS / "style.css").read_text(encoding="utf-8")
        template = (ASSETS / "page.html").read_text(encoding="utf-8")
        page = template.format(title=escape(title), style=f"\n{style}", body="\n".join(self.body))
        folder.mkdir(parents=True, exist_ok=True)
        for picture, content in self.pictures.items():
            write_atomically(folder / f"{prefix}{picture}", content)
        write_atomically(folder / f"{prefix}{name}", page.encode())
        return folder / f"{prefix}{name}"


def pixels(figure: Figure) -> tuple[bytes, bytes]:
    """Return a figure as PNG, and as WebP of a quarter of the size, which is embedded in the page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
    png, webp = BytesIO(), BytesIO()
    image.save(png, format="PNG", compress_level=4, dpi=(DOTS_PER_INCH, DOTS_PER_INCH))
    image.save(webp, format="WEBP", quality=88, method=2)
    return png.getvalue(), webp.getvalue()


def html_table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """Return a table as HTML whose first column names the rows; numbers are set in digits of equal width."""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    lines = []
    for row in rows:
        first, *rest = row
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    kind = "numbers" if numbers else "words"
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
