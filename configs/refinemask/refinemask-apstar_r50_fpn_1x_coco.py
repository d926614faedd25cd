# AP* beside COCO AP, as the authors' repository reports both; one line for any COCO config. With the
# annotations of LVIS v1 the images are those of COCO val2017 that LVIS v1 val has, too.
_base_ = './refinemask_r50_fpn_1x_coco.py'
ap_star = dict(
    type='MaskAPMetric',
    protocol='coco-on-lvis',
    metric='segm',
    ann_file='data/lvis_v1/annotations/lvis_v1_val.json',
)
test_evaluator = [_base_.test_evaluator, ap_star]
