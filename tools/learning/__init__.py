"""Small-scale proof of the papers' claims: every system on one backbone, several seeds and sets."""
