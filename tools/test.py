"""Test a model: MMDetection's own ``tools/test.py``, with its command line."""

from mmdet_tool import run_mmdet_tool

if __name__ == '__main__':
    run_mmdet_tool('test.py')
