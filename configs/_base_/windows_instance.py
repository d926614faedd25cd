# facades_instance.py with one class: the windows.
_base_ = './facades_instance.py'
metainfo = dict(_delete_=True, classes=('window',), palette=[(0, 110, 230)])
train_dataloader = dict(dataset=dict(metainfo=metainfo))
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = val_dataloader
