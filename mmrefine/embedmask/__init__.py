"""EmbedMask: pixels find their object by the distance of embeddings.

Read in this order: ``detector`` (what is called when), ``box_head`` (boxes with an embedding and a
margin each), ``mask_head`` (an embedding of every pixel), ``kernel`` (their weighted distance),
``targets`` and ``losses`` (training), ``postprocess`` (results), ``mixed_head`` (the boxes of other
detectors), ``checkpoint`` (released weights).
"""
