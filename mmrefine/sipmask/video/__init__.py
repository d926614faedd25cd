"""SipMask-VIS: SipMask on videos, one frame at a time, with objects recognised by an embedding.

Read in this order: ``detector`` (the whole), ``track_head`` (embeddings and their loss),
``tracker`` (scores, ids, and one memory per video). Files and folders: ``mmrefine.apis.video``.
"""
