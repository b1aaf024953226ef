"""Image networks that pretraining needs; the 3D networks are in `condense_ros.models`."""
