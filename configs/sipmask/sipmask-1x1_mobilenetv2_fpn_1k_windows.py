_base_ = './sipmask_mobilenetv2_fpn_1k_windows.py'
model = dict(bbox_head=dict(num_cells=1))
