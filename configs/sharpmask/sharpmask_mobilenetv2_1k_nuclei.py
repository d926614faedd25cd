# Second stage on the checkpoint of deepmask_mobilenetv2_1k_nuclei.py, given as load_from.
_base_ = './deepmask_mobilenetv2_1k_nuclei.py'
model = dict(type='SharpMask', refine_head=_base_.refine_head)
train_dataloader = dict(dataset=dict(score_share=0.0, pipeline=_base_.refine_pipeline))
