"""SipMask-VIS: SipMask on videos, one frame at a time, with objects recognised by an embedding.

Read in this order: ``detector`` (the whole), ``track_head`` (embeddings and their loss), ``memory``
(scores and ids), ``tracker`` (one memory per video), ``inference`` and ``frames`` (files).
"""
