"""Pictures of frames, clouds, training and places. Each function returns the path it wrote."""

from condense_ros.draw.bird_view import draw_bird_view
from condense_ros.draw.curves import draw_curves
from condense_ros.draw.features import draw_features, pca_colours
from condense_ros.draw.overlay import draw_overlay
from condense_ros.draw.places import PlaceQuery, draw_places

__all__ = [
    "PlaceQuery",
    "draw_bird_view",
    "draw_curves",
    "draw_features",
    "draw_overlay",
    "draw_places",
    "pca_colours",
]
