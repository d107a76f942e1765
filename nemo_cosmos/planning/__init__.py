"""What a training run will need and how to spread it, worked out without a GPU.

``workload`` says what is trained, ``parameters`` counts the network on torch's meta device,
``memory`` and ``cost`` estimate a layout, ``layouts`` lists the legal ones, and ``planner`` chooses
the fastest that fits. ``tokenizer`` plans the convolutional tokenizers, which train data-parallel.
The numbers of the hardware are in ``hardware`` alone.
"""
