"""DeepMask and SharpMask: proposals from sliding windows, and top-down refinement for every
detector."""
