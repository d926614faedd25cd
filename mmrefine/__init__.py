"""High-quality instance masks for MMDetection 3.x.

Importing the package registers every component in MMDetection's own registries.
"""

__version__ = '0.1.0'
