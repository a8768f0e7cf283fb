"""How lm-evaluation-harness asks an endpoint: its own model for completions, with the asking replaced.

lm-eval's way has three faults for us. It sends whatever key OPENAI_API_KEY holds, to any address; it logs
failed requests with their headers, and so the key; and it tries again what can never pass, and does not wait
as long as the endpoint asks.
"""

from __future__ import annotations

import asyncio
import copy
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from alpagasus_ray.llm.chat import EndpointError, ReplyError
from alpagasus_ray.llm.failures import failure_of, malformed, usable_key
from alpagasus_ray.llm.retrying import Tries
from alpagasus_ray.llm.wire import answer_to, json_object
from alpagasus_ray.recipe_benchmark_tasks import BenchmarkSettings


@dataclass(frozen=True, slots=True)
class Target:
    """A model behind an endpoint."""

    arm: str
    """What requests call it."""
    base_url: str
    api_key_env: str | None
    """The environment variable that holds the key. The key itself is read where requests are made."""
    tokenizer: str
    """The folder of the model's tokenizer."""
    max_length_tokens: int
    """Question and answer together."""


class Completions:
    """An OpenAI-compatible endpoint's completions, by raw request bodies."""

    def __init__(self, base_url: str, model: str, api_key: str | None, max_retries: int) -> None:
        self.base_url, self._model, self._max_retries = base_url, model, max_retries
        self._key = usable_key(api_key)

    async def ask(self, session: aiohttp.ClientSession, payload: dict[str, Any]) -> dict[str, Any]:
        """Return the answer's JSON object, which has choices.

        What may pass is sent again, as the endpoint wants it. Raises EndpointError in one line, without
        the key.
        """
        tries = Tries(self._max_retries)
        while True:
            try:
                return await self._post(session, payload)
            except ReplyError as error:
                if (delay_s := tries.delay_s(error)) is None:
                    raise EndpointError(f"{error.kind}: {error}") from None
                await asyncio.sleep(delay_s)

    async def _post(self, session: aiohttp.ClientSession, payload: dict[str, Any]) -> dict[str, Any]:
        url, headers = f"{self.base_url.rstrip('/')}/completions", {"Authorization": f"Bearer {self._key}"}
        answer = await answer_to(session.post(url, json=payload, headers=headers), self.base_url, self._key)
        if (rejection := answer.rejection(self._key, time.time())) is not None:
            raise failure_of(rejection, self.base_url, self._model)
        body = json_object(answer.content)
        if not isinstance(body.get("choices"), list) or not body["choices"]:
            raise malformed("the body has no choices")
        return body


class EndpointAsking:
    """Mixed into lm-eval's LocalCompletionsAPI.

    Prompts go as tokens, so that what is cut off or scored is counted in the model's own.
    """

    num_truncated = 0
    """Prompts that were longer than the model's context, and lost their beginning."""

    def __init__(self, target: Target, settings: BenchmarkSettings, api_key: str | None) -> None:
        """Load the tokenizer; the key is not looked for in the environment."""
        lm_eval: Any = super()
        lm_eval.__init__(
            model=target.arm,
            base_url=target.base_url,
            tokenizer=target.tokenizer,
            tokenizer_backend="huggingface",
            num_concurrent=settings.num_concurrent,
            max_retries=1,  # Completions.ask knows which failures may pass
            timeout=max(1, round(settings.timeout_s)),
            max_length=target.max_length_tokens,
            seed=settings.seed,
        )
        self._endpoint = Completions(target.base_url, target.arm, api_key, settings.max_retries)

    def tok_encode(
        self: Any,
        string: Any,
        left_truncate_len: int | None = None,
        add_special_tokens: Any = None,
        **unused: Any,
    ) -> Any:
        """Return the tokens of a text, or of each of several.

        Special tokens as training put them, unless told otherwise: those of the tokenizer's own, once.
        lm-eval adds none for an endpoint, and so no BOS to a Llama's prompt.
        """
        if not isinstance(string, str):
            return [self.tok_encode(one, left_truncate_len) for one in string]
        bos = self.tokenizer.bos_token
        # A chat template may have written the BOS already.
        special = add_special_tokens is not False and not (bos and string.startswith(bos))
        ids = self.tokenizer(string, add_special_tokens=special).input_ids
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def _loglikelihood_tokens(self: Any, requests: Any, **options: Any) -> Any:
        lengths = [len(context) + len(continuation) for _, context, continuation in requests]
        self.num_truncated += sum(length > self.max_length for length in lengths)
        lm_eval: Any = super()
        return lm_eval._loglikelihood_tokens(requests, **options)

    def generate_until(self: Any, requests: Any, disable_tqdm: bool = False) -> Any:
        """Return the answers; raises EndpointError where they leave no room for the question."""
        for request in requests:
            prompt, options = request.args
            answer_tokens = options.get("max_gen_toks", self._max_gen_toks)
            if (room_tokens := self.max_length - answer_tokens) <= 0:
                raise EndpointError(
                    f"its answers may have {answer_tokens:,} tokens (max_gen_toks), and the model's context "
                    f"has {self.max_length + 1:,}, question included"
                )
            self.num_truncated += len(self.tok_encode(prompt)) > room_tokens
        lm_eval: Any = super()
        return lm_eval.generate_until(requests, disable_tqdm)

    async def amodel_call(
        self: Any,
        session: aiohttp.ClientSession,
        sem: asyncio.Semaphore,
        messages: Any,
        *,
        generate: bool = True,
        ctxlens: Any = None,
        gen_kwargs: Any = None,
        **unused: Any,
    ) -> Any:
        """Return the answers to a batch of prompts, or their log-probabilities.

        Raises EndpointError in one line, without the key.
        """
        payload = self._create_payload(
            self.create_message(messages),
            generate=generate,
            gen_kwargs=copy.deepcopy(gen_kwargs),  # of all requests, and emptied on the way
            seed=self._seed,
        )
        async with sem:
            answer = await self._endpoint.ask(session, payload)
        if generate:
            return [text or "" for text in self.parse_generations(outputs=answer)]
        if not all(_has_logprobs(choice) for choice in answer["choices"]):
            raise EndpointError(
                f"{self._endpoint.base_url} gives no log-probabilities of a prompt (completions with echo "
                "and logprobs), by which multiple choice is scored"
            )
        return self.parse_logprobs(outputs=answer, tokens=messages, ctxlens=ctxlens)


def endpoint_model_class(base: type) -> Any:
    """Return the class of a model that lm-eval can evaluate, on top of its LocalCompletionsAPI.

    That comes as an argument: importing it takes seconds, which only who evaluates should pay.
    """
    return type("EndpointModel", (EndpointAsking, base), {})


def _has_logprobs(choice: dict[str, Any]) -> bool:
    found = choice.get("logprobs")
    return isinstance(found, dict) and bool(found.get("token_logprobs")) and bool(found.get("top_logprobs"))
