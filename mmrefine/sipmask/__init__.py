"""SipMask: single-stage instance masks whose coefficients differ from cell to cell of a box.

Read in this order: ``detector`` (the whole), ``box_head`` and ``align`` (points, boxes,
coefficients), ``mask_head`` and ``assembly`` (masks), ``losses`` (training), ``postprocess``
(output), ``checkpoint`` (released weights), ``backbone`` (SipMask++).
"""
