"""Small backbones, and their ImageNet weights from packages of the ordinary Python index."""
