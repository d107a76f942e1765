"""Prompt guards that ask a language model: Aegis, Llama Guard 3 and Qwen3Guard.

They are off unless a site enables them (``guardrails.enabled=[qwen3guard]``), because not everyone
may download their weights. ``transformers`` loads the model from a local folder or the hub, or an
OpenAI-compatible endpoint (vLLM, NIM, llama.cpp) is asked; see
:class:`~nemo_cosmos.guardrails.settings.GuardSettings`. An endpoint's key is read from
``NEMO_COSMOS_LLM_GUARD_KEY``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from nemo_cosmos.errors import GuardrailError, InputError, ServiceError
from nemo_cosmos.guardrails.base import SAFE, GuardKind, Verdict
from nemo_cosmos.guardrails.settings import LLM_KEY_VARIABLE, where_to_set
from nemo_cosmos.guardrails.text.llm_formats import LLM_FORMATS, LlmFormat, llama_guard_prompt
from nemo_cosmos.guardrails.text.prompt import refuse_unreadable
from nemo_cosmos.platform import default_device, require
from nemo_cosmos.services import Endpoint, OpenAIClient, run_blocking, user_message

MAX_NEW_TOKENS = 100
REQUEST_TIMEOUT_S = 60.0
MAX_TRIES = 3
HUB_TIMEOUT_S = 10.0
#: What is fetched of a repository: no pickles, no copies in other formats.
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]

T = TypeVar("T")


class Backend(Protocol):
    """Gets a language model's answer to a prompt that is to be judged."""

    def answer(self, prompt: str, asked: LlmFormat) -> str:
        """Return what the model writes, without the question."""
        ...


class TransformersBackend:
    """A model in this process, decoded greedily.

    Args:
        model: local folder or name on the hub; only safetensors are read, and none of its code
            runs.
        adapter: local folder or name on the hub of a PEFT adapter.
    """

    def __init__(self, model: str, adapter: str | None = None) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        device = default_device()

        def load(folder: str) -> tuple[Any, Any]:
            tokenizer = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
            net = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
            )
            return tokenizer, net

        self._tokenizer, net = _from_cache_or_hub(model, load)
        if adapter is not None:
            peft = require("peft")
            net = _from_cache_or_hub(
                adapter, lambda folder: peft.PeftModel.from_pretrained(net, folder)
            )
        self._net = net.to(device).eval()

    def answer(self, prompt: str, asked: LlmFormat) -> str:
        """Generate the answer.

        Raises:
            GuardrailError: the model's logits are not finite.
        """
        import torch

        tokens = self._tokenize(prompt, asked).to(self._net.device)
        inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            if not torch.isfinite(self._net(**inputs).logits[:, -1]).all():
                raise GuardrailError(
                    "The language model gave NaN or infinite values. Its weights are damaged, or "
                    "the precision does not suit them; fetch them again."
                )
            output_BT = self._net.generate(
                **inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False,
                pad_token_id=self._tokenizer.eos_token_id,
            )  # fmt: skip
        new_T = output_BT[0, inputs["input_ids"].shape[1] :]
        return str(self._tokenizer.decode(new_T, skip_special_tokens=True))

    def _tokenize(self, prompt: str, asked: LlmFormat) -> Any:
        """Return the question's token ids, in the model's own chat template if it has one."""
        if not asked.has_template:
            return self._tokenizer(
                llama_guard_prompt(prompt, asked.categories), return_tensors="pt"
            )
        return self._tokenizer.apply_chat_template(
            [user_message(prompt)],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )


def _from_cache_or_hub(source: str, load: Callable[[str], T]) -> T:
    """Load from a local folder: the given one, the cache's copy, or one that the hub gives.

    The hub is asked once, and only for what the cache lacks: ``from_pretrained`` with a hub name
    asks for each file several times before it looks at what there is.

    Args:
        source: local folder or name on the hub.
        load: called with the folder; raises OSError if files are missing there.

    Raises:
        GuardrailError: there is no such folder, or the hub does not give the files.
    """
    if Path(source).is_dir():
        return load(source)
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError

    options: dict[str, Any] = {"allow_patterns": HUB_FILES}
    settings = f"{where_to_set('llm_guard_model')}, to a folder that has the weights"
    try:
        return load(snapshot_download(source, local_files_only=True, **options))
    except HFValidationError as error:
        raise GuardrailError(
            f"The folder '{source}' does not exist, and no hub name reads so. Set {settings}."
        ) from error
    except OSError:
        pass  # not in the cache, or not all of it
    try:
        HfApi().model_info(source, timeout=HUB_TIMEOUT_S)  # the download would wait for minutes
        return load(snapshot_download(source, **options))
    except OSError as error:
        raise GuardrailError(
            f"The weights of '{source}' are not in the cache, and the hub did not give them "
            f"({type(error).__name__}). Fetch them once with `hf download {source}` where there is "
            f"network (with HF_TOKEN, if the model is gated), or set {settings}, or "
            f"{where_to_set('llm_guard_url')}, to an endpoint."
        ) from error


class EndpointBackend:
    """A model behind an OpenAI-compatible endpoint.

    Args:
        url: the endpoint's URL, up to and including ``/v1``.
        model: the model's name at the endpoint.
        timeout_s: the time limit of one answer.
    """

    def __init__(self, url: str, model: str, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._endpoint = Endpoint(
            url, model, LLM_KEY_VARIABLE, timeout_s=timeout_s, max_tries=MAX_TRIES, pause_s=0.5
        )

    def answer(self, prompt: str, asked: LlmFormat) -> str:
        """Ask the endpoint.

        Raises:
            GuardrailError: it cannot be reached, fails, or answers in another format.
        """
        try:
            return run_blocking(self._answer(prompt, asked))
        except (ServiceError, InputError) as error:
            raise GuardrailError(
                f"The language model gave no answer: {error} Check "
                f"{where_to_set('llm_guard_url')}, the model's name there, and {LLM_KEY_VARIABLE}."
            ) from error

    async def _answer(self, prompt: str, asked: LlmFormat) -> str:
        # A verdict stands at the beginning: what follows it may be cut off.
        async with OpenAIClient(self._endpoint) as client:
            if asked.has_template:
                answer = await client.chat(
                    [user_message(prompt)], max_tokens=MAX_NEW_TOKENS, allow_cut=True
                )
            else:
                question = llama_guard_prompt(prompt, asked.categories)
                answer = await client.complete(question, max_tokens=MAX_NEW_TOKENS, allow_cut=True)
        return answer.text


class LlmGuard:
    """Refuses what a language model calls unsafe.

    Args:
        asked: the model's format.
        make_backend: called with the first prompt; may fail, which is a refusal.
    """

    kind: GuardKind = "prompt"

    def __init__(self, asked: LlmFormat, make_backend: Callable[[], Backend]) -> None:
        self.name = asked.name
        self._asked = asked
        self._make_backend = make_backend
        self._backend: Backend | None = None
        self._loading = threading.Lock()

    def check(self, x: str | np.ndarray) -> Verdict:
        """Judge one prompt.

        Raises:
            GuardrailError: the model cannot be asked, or its answer cannot be read (a refusal).
        """
        refusal = refuse_unreadable(self.name, x)
        if refusal is not None:
            return refusal
        with self._loading:
            backend = self._backend = self._backend or self._make_backend()
        category = self._asked.parse(backend.answer(str(x), self._asked), self._asked.categories)
        if category == SAFE:
            return Verdict(True, self.name, SAFE, "the language model calls it safe")
        return Verdict(False, self.name, category, f"the language model calls it {category}")


def build_llm_guard(
    name: str, *, model: str | None = None, adapter: str | None = None, url: str | None = None
) -> LlmGuard:
    """Build one of the three guards; its model is loaded with the first prompt.

    Args:
        name: ``aegis``, ``llama_guard`` or ``qwen3guard``.
        model: folder, hub name, or the name at the endpoint; by default the published model's.
        adapter: folder or hub name of a PEFT adapter; by default the published one, if there is
            one.
        url: an endpoint to ask; None loads the model into this process.
    """
    asked = LLM_FORMATS[name]

    def make_backend() -> Backend:
        if url:
            return EndpointBackend(url, model or asked.model)
        return TransformersBackend(model or asked.model, adapter or asked.adapter)

    return LlmGuard(asked, make_backend)


build_aegis = partial(build_llm_guard, "aegis")
build_llama_guard = partial(build_llm_guard, "llama_guard")
build_qwen3guard = partial(build_llm_guard, "qwen3guard")
