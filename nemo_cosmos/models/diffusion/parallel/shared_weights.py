"""Share a network's weights out over the ranks that generate together.

Every rank needs all layers, but not at once: each keeps a part of every layer, and a layer is put
together while it computes (PyTorch's FSDP2). A rank then holds 1/N of the weights and the layer at
work. What it computes is unchanged.
"""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from nemo_cosmos.models.diffusion.build import WorldNetwork
from nemo_cosmos.platform import default_device, num_processes


def share_weights(net: WorldNetwork) -> None:
    """Keep this rank's part of every weight, in place; the process group must exist.

    The control stays whole: it is small, and called on its own.

    Args:
        net: the network, whole on each rank, on any device.
    """
    device = default_device()
    mesh = init_device_mesh(device.type, (num_processes(),))
    whole = [module.to(device) for module in (net.controls, net.logvar) if module is not None]
    whole_parameters: set[nn.Parameter] = {p for module in whole for p in module.parameters()}
    for layer in net.blocks.layers:
        # The text's keys and values are computed on their own, once for all sampling steps, so
        # this part must be put together without a call of the layer's forward.
        fully_shard(layer.cross_attention, mesh=mesh)
        register_fsdp_forward_method(layer.cross_attention, "project_context")
        fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh, reshard_after_forward=True, ignored_params=whole_parameters)
    # What a sampler computes once for all steps reads weights outside of the net's forward.
    for method in ("encode_text", "encode_places"):
        register_fsdp_forward_method(net, method)
