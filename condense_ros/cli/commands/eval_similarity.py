"""`condense eval similarity`: pictures of what pretraining has made alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy.typing as npt

    from condense_ros.frame import Frame
    from condense_ros.ontology import Ontology
    from condense_training.evaluate.similarity import FrameFeatures, Query

#: classes looked for where none is named
_CLASSES = 3


def similarity(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a `condense pretrain` run, or a checkpoint (points alone, no images)."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data set or bag.")] = None,
    frame: Annotated[int, typer.Option(min=0, help="Number of the frame.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for pictures and similarity.json.")] = Path(
        "similarity"
    ),
    class_names: Annotated[
        list[str] | None,
        typer.Option("--class", help="Look for the like of a point of this class; repeatable."),
    ] = None,
    point: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Look for the like of the cloud's n-th point; repeatable."),
    ] = None,
    pixel: Annotated[
        list[str] | None,
        typer.Option(help="Look for the like of a pixel, CAMERA:U,V; repeatable."),
    ] = None,
    size: Annotated[
        int, typer.Option(min=0, help="Shorter side of images, pixels; 0: as in training.")
    ] = 0,
    tsne_points: Annotated[
        int, typer.Option(min=0, help="Points of the t-SNE picture; 0: leave it out.")
    ] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the points drawn for t-SNE.")] = 0,
) -> None:
    """Draw similarity to a point, pixel or class, features as colours, and t-SNE, of one frame."""
    from condense_ros.datasets import open_dataset
    from condense_ros.errors import ConfigError
    from condense_ros.files import write_json
    from condense_training.evaluate.run_folder import open_embedding
    from condense_training.evaluate.similarity import alignment, frame_features

    if checkpoint is None or data is None:
        raise ConfigError(
            "similarity needs a run or checkpoint, and data",
            "type: condense eval similarity RUN_FOLDER --data DATA --frame 10 --out pictures",
        )
    source = open_dataset(data)
    if frame >= len(source):
        raise ConfigError(f"{data} has no frame {frame}", f"give 0 to {len(source) - 1}")
    embedding = open_embedding(checkpoint)
    sample = source[frame]
    features = frame_features(embedding, sample, short_side_px=size)
    queries = _queries(sample, features, source.classes, class_names, point, pixel)
    typer.echo(f"space: {embedding.space}")
    if not embedding.sees_images:
        typer.echo("no teacher in these weights: points are compared with points alone")
    figures = alignment(sample, features)
    content: dict[str, object] = {
        "checkpoint": str(checkpoint),
        "data": str(data),
        "frame": frame,
        "space": embedding.space,
        "alignment": figures,
        "queries": [_drawn(sample, features, query, out) for query in queries],
    }
    if figures:
        typer.echo(
            f"points and pixels of {figures['pairs']} pairs: mean cosine "
            f"{figures['cosine_own_pixel']:.3f}, with other points' pixels "
            f"{figures['cosine_other_pixel']:.3f}; the own one wins in "
            f"{100 * figures['own_pixel_wins']:.1f} %"
        )
    _colours(sample, features, out)
    if tsne_points:
        content["tsne_points"] = _tsne(sample, features, source.classes, out, tsne_points, seed)
    write_json(out / "similarity.json", content)


def _queries(
    frame: Frame,
    features: FrameFeatures,
    classes: Ontology | None,
    names: list[str] | None,
    points: list[int] | None,
    pixels: list[str] | None,
) -> list[Query]:
    from condense_ros.errors import ConfigError
    from condense_training.evaluate.similarity import (
        class_query,
        largest_classes,
        pixel_query,
        point_query,
    )

    queries = [point_query(frame, features, row) for row in points or ()]
    for text in pixels or ():
        camera, _, place = text.rpartition(":")
        try:
            u, v = (float(number) for number in place.split(","))
        except ValueError:
            raise ConfigError(f"--pixel {text!r}", "write CAMERA:U,V") from None
        queries.append(pixel_query(frame, features, camera, u, v))
    if names and classes is None:
        raise ConfigError("the data have no classes", "use --point or --pixel")
    if classes is not None:
        labels = [classes.index(name) for name in names or ()]
        if not labels and not queries:
            labels = largest_classes(frame, features, _CLASSES)
        queries += [class_query(frame, features, k, classes.names[k]) for k in labels]
    if not queries:
        raise ConfigError(
            "nothing to look for: the frame has no labels", "name a --point or a --pixel"
        )
    return queries


def _drawn(
    frame: Frame, features: FrameFeatures, query: Query, out: Path
) -> dict[str, float | str | None]:
    """Draws one query; returns its figures."""
    from condense_ros.draw import RigPicture, draw_rig
    from condense_training.evaluate.similarity import separation, similarity

    maps = similarity(features, query)
    names = [image.name for image in frame.images]
    area = separation(frame, maps, query)
    picture = RigPicture(
        maps.points,
        dict(zip(names, maps.images, strict=False)),
        {names[image]: uv for image, uv in query.pixels.items()},
        query.xyz,
        scale="cosine similarity",
    )
    file = "".join(c if c.isalnum() else "_" for c in query.name)
    name = query.name.replace("_", " ")
    path = draw_rig(frame, picture, out / f"similarity_{file}.png", title=f"like this: {name}")
    found = "" if area is None else f", finds its class with an area under ROC of {area:.3f}"
    typer.echo(f"{name}{found}: {path}")
    return {"query": query.name, "point": query.row, "roc_area": area, "picture": str(path)}


def _colours(frame: Frame, features: FrameFeatures, out: Path) -> None:
    """Features as colours, the same for points and pixels: their three main directions."""
    import numpy as np

    from condense_ros.draw import RigPicture, draw_bird_view, draw_rig, pca_colours

    known = features.known
    fit = features.points[known]

    def painted(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        # from dark grey up, or else the night of the picture swallows them
        colours: npt.NDArray[np.uint8] = (56 + pca_colours(rows, fit=fit) * (199 / 255)).astype(
            np.uint8
        )
        return colours

    colours = painted(features.points)
    names = [image.name for image in frame.images]
    maps = {name: painted(each) for name, each in zip(names, features.maps, strict=False)}
    seen = frame.cloud.select(known)
    bird = draw_bird_view(
        seen, out / "pca_cloud.png", colours=colours[known], title="Features as colours"
    )
    typer.echo(f"features as colours: {bird}")
    if frame.images:
        picture = RigPicture(colours, maps, known=known)
        path = draw_rig(frame, picture, out / "pca_rig.png", title="Features as colours")
        typer.echo(f"features as colours, points over images and pixels below: {path}")


def _tsne(
    frame: Frame,
    features: FrameFeatures,
    classes: Ontology | None,
    out: Path,
    count: int,
    seed: int,
) -> int:
    """Draws t-SNE of random points; returns how many."""
    import numpy as np

    from condense_ros.draw import draw_scatter
    from condense_ros.frame import IGNORE
    from condense_training.evaluate.tsne import tsne
    from condense_training.threads import cpu_threads

    rows = np.nonzero(features.known)[0]
    labels = None
    if frame.labels is not None and classes is not None:
        rows = rows[frame.labels[rows] != IGNORE]
        labels = frame.labels
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    with cpu_threads():
        places = tsne(features.points[rows])
    path = draw_scatter(
        places,
        out / "tsne.png",
        labels=None if labels is None else labels[rows],
        ontology=classes,
        title=f"t-SNE of {len(rows)} point features",
    )
    typer.echo(f"t-SNE: {path}")
    return len(rows)
