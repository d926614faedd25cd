"""Is somebody taking notes of the computation?"""

import torch
from torch import Tensor


def makes_graph(*tensors: Tensor) -> bool:
    """Whether autograd, a compiler or a tracer follows what is computed from these tensors.

    Where nothing does, a CPU may take a way that writes into its own results, in strips.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
