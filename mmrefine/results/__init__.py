"""Everything that looks like COCO on disk: ground truth, results, tracks, dumps, image names."""
