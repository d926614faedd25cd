# MobileNetV2 from ImageNet weights (`python tools/get_backbone.py mobilenet-v2` fetches them), frozen as MMDetection
# freezes a ResNet: norms everywhere, all weights up to stride 4. A model takes both values below.
mobilenetv2 = dict(
    _delete_=True,
    type='MobileNetV2',
    out_indices=(1, 2, 4, 6),
    frozen_stages=2,
    norm_cfg=dict(type='BN', requires_grad=False),
    norm_eval=True,
    init_cfg=dict(type='Pretrained', checkpoint='mmrefine://mobilenet-v2'),
)
mobilenetv2_channels = [24, 32, 96, 320]
