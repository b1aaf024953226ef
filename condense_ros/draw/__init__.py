"""Pictures of frames, clouds, labels, training and places. `draw_*` return the path they wrote."""

from condense_ros.draw.bars import draw_bars
from condense_ros.draw.bird_view import draw_bird_view
from condense_ros.draw.cloud_grid import CloudPanel, draw_cloud_grid
from condense_ros.draw.curves import draw_curves
from condense_ros.draw.features import draw_features, pca_colours
from condense_ros.draw.labels import draw_labels, label_colours
from condense_ros.draw.overlay import draw_overlay
from condense_ros.draw.places import PlaceQuery, draw_places
from condense_ros.draw.rig import RigPicture, draw_rig
from condense_ros.draw.scatter import draw_scatter

__all__ = [
    "CloudPanel",
    "PlaceQuery",
    "RigPicture",
    "draw_bars",
    "draw_bird_view",
    "draw_cloud_grid",
    "draw_curves",
    "draw_features",
    "draw_labels",
    "draw_overlay",
    "draw_places",
    "draw_rig",
    "draw_scatter",
    "label_colours",
    "pca_colours",
]
