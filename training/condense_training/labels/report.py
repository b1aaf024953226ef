"""A page to look at labels: one file of HTML that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from condense_ros.draw import label_colours
from condense_ros.errors import CondenseError
from condense_ros.files import write_atomically
from condense_training.frames import spread
from condense_training.labels.folder import LabelFolder
from condense_training.labels.images import ImageSource
from condense_training.labels.ontology import LabelOntology
from condense_training.labels.run import LabelReport

#: pictures are shown no wider than this, pixels
_WIDTH = 900
#: a class with more of all pixels, or "no class" with more, is worth a remark
_TOO_MUCH, _TOO_LITTLE = 0.95, 0.8
_MOST_FAILURES = 50

_STYLE = """
body { background: #12161c; color: #c9d1d9; font: 15px/1.45 system-ui, sans-serif; margin: 0 auto;
       max-width: 1000px; padding: 1.5em; }
h1 { color: #fff; font-size: 1.5em; margin: 0 0 .2em; } h2 { color: #fff; margin: 1.6em 0 .5em; }
code { color: #9fc5e8; } .note { color: #f0c674; }
table { border-collapse: collapse; } td, th { padding: .15em .9em .15em 0; text-align: left; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 0 0 1.4em; } img { display: block; max-width: 100%; border-radius: 4px; }
figcaption { color: #8b949e; font-size: .9em; padding-top: .3em; }
i { border-radius: 3px; display: inline-block; height: .8em; margin-right: .45em; width: .8em; }
.bar { background: #2b333d; height: .55em; width: 220px; } .bar b { display: block; height: 100%; }
"""


def write_report(
    source: ImageSource, report: LabelReport, *, images: int = 12, suffix: str = ""
) -> Path:
    """Writes `out`/report.html: classes and their shares, pictures of some images, failures.

    Args:
        source: where the labelled images come from.
        images: how many frames or files are shown, evenly spread.
        suffix: added to the name of the page.

    Raises:
        LabelError: the folder holds no labels.
        StorageFull: no room.
    """
    folder = LabelFolder(report.out)
    header, ontology = folder.header, folder.ontology
    figures = _figures(source, folder, images)
    title = f"Labels of {source.path.name or source.path}"
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>",
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>",
        f"<p>{report.images} images by labeler <code>{html.escape(header.labeler)}</code> "
        f"({header.labeler_hash}), ontology <code>{html.escape(ontology.name)}</code> "
        f"({ontology.hash()}); {report.made} labelled now, {len(report.failed)} failed.</p>",
        *(f"<p class=note>{html.escape(remark)}</p>" for remark in remarks(report)),
        "<h2>Classes</h2>",
        _classes(report, ontology),
        "<h2>Images</h2>",
        *figures,
    ]
    if report.failed:
        parts.append("<h2>Failed</h2><table><tr><th>image<th>reason")
        for failure in report.failed[:_MOST_FAILURES]:
            cells = html.escape(failure["image"]), html.escape(failure["reason"])
            parts.append("<tr><td>{}<td>{}".format(*cells))
        parts.append("</table>")
    path = report.out / f"report{suffix}.html"
    write_atomically(path, "\n".join(parts) + "\n")
    return path


def remarks(report: LabelReport) -> list[str]:
    """What looks wrong about the labels as a whole."""
    total = sum(report.pixels.values())
    if not total:
        return ["no image was labelled"]
    found = []
    for name, pixels in report.pixels.items():
        share = pixels / total
        if name == "no class" and share > _TOO_LITTLE:
            found.append(f"{100 * share:.0f} % of all pixels have no class")
        elif name != "no class" and share > _TOO_MUCH:
            found.append(f"{100 * share:.0f} % of all pixels are {name}")
    return found


def _classes(report: LabelReport, ontology: LabelOntology) -> str:
    total = max(1, sum(report.pixels.values()))
    rows = ["<table><tr><th>class<th class=n>pixels<th class=n>share<th>"]
    colours = {one.name: one.colour for one in ontology.classes}
    for name, pixels in report.pixels.most_common():
        share, colour = 100 * pixels / total, colours.get(name, "#444c56")
        rows.append(
            f'<tr><td><i style="background:{colour}"></i>{html.escape(name)}'
            f"<td class=n>{pixels}<td class=n>{share:.1f} %"
            f'<td><div class=bar><b style="background:{colour};width:{share:.1f}%"></b></div>'
        )
    return "\n".join([*rows, "</table>"])


def _figures(source: ImageSource, folder: LabelFolder, wanted: int) -> list[str]:
    figures = []
    for row in spread(len(source), wanted):
        try:
            images = source.images(row)
        except (CondenseError, OSError, ValueError):
            continue  # listed among the failures
        for image in images:
            if not folder.has(image.pixels):
                continue
            made = folder.read(image.pixels)
            tinted = label_colours(
                image.pixels, made.labels, folder.ontology.drawing, confidence=made.confidence
            )
            record = made.details
            largest = sorted(record["pixels"].items(), key=lambda item: -item[1])[:6]
            shares = ", ".join(f"{name} {100 * n / made.labels.size:.0f} %" for name, n in largest)
            figures.append(
                f'<figure><img alt="" src="data:image/jpeg;base64,{_jpeg(tinted)}">'
                f"<figcaption>{html.escape(image.name)}: {html.escape(shares)}; mean confidence "
                f"{record['mean_confidence']:.2f}, {record['seconds']:.2f} s</figcaption></figure>"
            )
    return figures


def _jpeg(pixels: npt.NDArray[np.uint8]) -> str:
    picture = Image.fromarray(pixels)
    if picture.width > _WIDTH:
        size = _WIDTH, max(1, round(picture.height * _WIDTH / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=82)
    return base64.b64encode(content.getvalue()).decode()
