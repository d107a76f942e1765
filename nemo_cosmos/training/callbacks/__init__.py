"""What watches, averages, samples and stops a training run, one file each.

Import each from its own file: some know the model's family and the export, others are imported by
those.
"""
