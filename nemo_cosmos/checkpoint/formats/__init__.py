"""File formats of weights: safetensors, torch, TorchScript, NeMo; read and written by tensor."""
