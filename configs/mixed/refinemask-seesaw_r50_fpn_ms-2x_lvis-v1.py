_base_ = 'mmdet::seesaw_loss/mask-rcnn_r50_fpn_seesaw-loss_sample1e-3-ms-2x_lvis-v1.py'
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
default_hooks = dict(learnable=dict(type='LearnableDataHook'))
model = dict(
    roi_head=dict(
        type='RefineRoIHead',
        mask_head=dict(
            _delete_=True, type='RefineMaskHead', stage_num_classes=[None, None, None, 1]
        ),
    ),
    test_cfg=dict(rcnn=dict(mask_format='rle')),
)
