"""EmbedMask: pixels find their object by the distance of embeddings.

Read in this order: ``detector`` (the whole), ``box_head`` and ``proposal`` (boxes with an embedding
    and a margin
each), ``mask_head`` (an embedding of every pixel), ``kernel`` (their weighted distance),
``losses``, ``targets`` and ``mask_loss`` (training), ``detections`` and ``output`` (results),
``mixed_head`` (other detectors' boxes), ``checkpoint`` (released weights).
"""
