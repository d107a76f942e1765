"""What a training run needs and how to spread it, worked out without a GPU.

The model's family describes one step (:class:`nemo_cosmos.models.common.costs.Workload`);
``memory`` and ``cost`` estimate it under a layout, ``layout`` lists the legal ones, ``planner``
chooses the fastest that fits, and ``recipe`` starts from a configured recipe. ``counted`` plans
models that train data-parallel only, such as the tokenizers. The figures of the hardware are in
``hardware`` alone.
"""
