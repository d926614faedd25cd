# deepmask_compact.py on MobileNetV2 from ImageNet weights, of which it takes the maps of stride 2 to 16.
_base_ = ['./deepmask_compact.py', './mobilenetv2.py', './schedule_patches.py']
custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
model = dict(backbone=dict(_base_.mobilenetv2, out_indices=(0, 1, 2, 4), conv_cfg=_base_.conv_cfg))
refine_head = dict(feature_channels=(96, 32, 24, 16))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.2))))
# Layers behind that of stride 16 learn nothing.
find_unused_parameters = True
