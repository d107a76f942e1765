"""Training with NeMo and Lightning.

``session`` advances a run step by step and ``run`` trains one to its end. ``trainer`` and
``strategy`` set NeMo up, ``fsdp`` shards weights. ``checkpointing`` saves and resumes; callbacks
watch and sample. ``weights``, ``initial_weights`` and ``export`` move weights in and out.
"""
