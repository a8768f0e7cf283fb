"""Generation: an arm answers every test set through an OpenAI-compatible endpoint, many prompts at once.

No Ray here: the endpoint does the work, and one event loop keeps it busy.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console, Progress
from alpagasus_ray.corpus.answers import Answer, answers_to_jsonl
from alpagasus_ray.corpus.template import chat_message, render_prompt
from alpagasus_ray.corpus.testset_files import content_hashes, load_testsets
from alpagasus_ray.corpus.testsets import Prompt
from alpagasus_ray.errors import UserError
from alpagasus_ray.llm.asking import Asked, Asker, AskingLimits, failure_kind, num_passing
from alpagasus_ray.llm.chat import EndpointError, Message, Request, Sampling
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.manifests import Made, Manifest, settings_hash
from alpagasus_ray.recipe import Recipe


class Generation:
    """The answers of one arm: what they are made from, and the making of them."""

    def __init__(self, run: RunDirectory, recipe: Recipe, arm: str) -> None:
        """Read the test sets; raises UserError where they or the arm's model are missing."""
        self.run, self.arm, self.settings = run, arm, recipe.generate
        self.testsets = load_testsets(run, recipe.generate)
        self._inputs: dict[str, Manifest] = {}
        if recipe.generate.base_url is None:
            self._inputs[run.model(arm)] = run.require(run.model(arm), f"train --arm {arm}")
        served = {} if recipe.generate.base_url else {"serve": recipe.serve.shapes_result()}
        self._is_chat = _template(run, recipe, arm) == "chat"
        asked = {"template": "chat"} if self._is_chat else {}
        shaping = {**recipe.generate.shapes_result(), **served, **asked}
        self._hashed = {**shaping, "testsets": content_hashes(self.testsets)}

    def committed(self) -> Manifest | None:
        """Return the manifest where the answers are there already."""
        return self.run.committed(self.run.answers(self.arm), "generate", self._hashed, self._inputs)

    def make(self, base_url: str, api_key: str | None, console: Console) -> Manifest:
        """Commit RUN/answers/<arm>/ and return its manifest.

        A prompt that gets no answer is a failure with its reason, counted; it is in no file. Raises
        UserError when the endpoint can answer nothing at all.
        """
        if self.settings.base_url:
            console.say(f"generate: asking {base_url} for {self.arm} (generate.base_url)")
        manifest, _ = self.run.make(
            self.run.answers(self.arm),
            "generate",
            self._hashed,
            self._inputs,
            lambda: self._generate(base_url, api_key, console),
        )
        answered = manifest.counts["answers"]
        console.say(f"generate: {self.arm} answered {answered:,} prompts of {len(self.testsets)} test sets")
        return manifest

    def _generate(self, base_url: str, api_key: str | None, console: Console) -> Made:
        model = self._inputs.get(self.run.model(self.arm))
        replies = self.run.local_path(
            self.run.replies(self.arm, model.content if model else settings_hash({"base_url": base_url}))
        )
        asked = asyncio.run(self._ask_all(base_url, api_key, Ledger(replies), console))
        if not any(one.reply for one in asked.values()):
            reasons = Counter(one.failure for one in asked.values()).most_common(1)
            raise UserError(f"{self.arm} answered no prompt at all ({reasons[0][0]})")
        made = self._write(asked)
        if not made.details["passing_failures"]:
            shutil.rmtree(replies)
        return made

    async def _ask_all(
        self, base_url: str, api_key: str | None, replies: Ledger, console: Console
    ) -> dict[tuple[str, str], Asked]:
        from alpagasus_ray.llm.openai_chat import OpenAIChat  # the SDK takes a second to import

        settings = self.settings
        try:
            model = OpenAIChat(base_url, api_key, settings.timeout_s)
        except EndpointError as error:
            raise UserError(str(error)) from error
        asker = Asker(model, replies, AskingLimits(settings.max_concurrency, settings.max_retries))
        prompts = [(testset.name, prompt) for testset in self.testsets for prompt in testset.prompts]
        try:
            with console.progress(f"generate {self.arm}", len(prompts), "prompts") as progress:
                asked = await asyncio.gather(*(self._ask(asker, prompt, progress) for _, prompt in prompts))
        except EndpointError as error:
            raise UserError(str(error)) from error
        finally:
            await asker.close()
        return {(name, prompt.id): one for (name, prompt), one in zip(prompts, asked, strict=True)}

    async def _ask(self, asker: Asker, prompt: Prompt, progress: Progress) -> Asked:
        settings = self.settings
        # The very string of training, sent raw: a chat template of the endpoint's could be another one. A
        # model that was trained with its own chat template has it beside its weights.
        render = chat_message if self._is_chat else render_prompt
        request = Request(
            messages=(Message("user", render(prompt.instruction, prompt.input)),),
            model=self.arm,
            sampling=Sampling(settings.max_new_tokens, settings.temperature, settings.top_p),
            raw_prompt=not self._is_chat,
        )
        asked = await asker.ask(request)
        progress.advance()
        return asked

    def _write(self, asked: dict[tuple[str, str], Asked]) -> Made:
        counts: dict[str, int] = {}
        failures: Counter[str] = Counter()
        finish_reasons: Counter[str] = Counter()
        for testset in self.testsets:
            answers = []
            for prompt in testset.prompts:
                one = asked[testset.name, prompt.id]
                if one.reply is None:
                    failures[failure_kind(one.failure or "")] += 1
                    continue
                finish_reasons[one.reply.finish_reason] += 1
                answers.append(_answer(prompt, self.arm, one.reply.text, one.reply.finish_reason))
            counts[testset.name] = len(answers)
            name = f"{self.run.answers(self.arm)}/{testset.name}.jsonl"
            self.run.write_text(name, answers_to_jsonl(answers))
        return Made(
            counts={**counts, "answers": sum(counts.values())},
            failures=failures,
            details={"finish_reasons": dict(finish_reasons), "passing_failures": num_passing(failures)},
        )


def _answer(prompt: Prompt, arm: str, text: str, finish_reason: str) -> Answer:
    return Answer(prompt.id, arm, prompt.question, prompt.category, text.strip(), finish_reason)


def _template(run: RunDirectory, recipe: Recipe, arm: str) -> str:
    """Return what the arm's prompts were written into: as its manifest says, else as it would be trained."""
    manifest = run.manifest(run.model(arm))
    if manifest is None:
        return recipe.train.template
    return str(manifest.settings.get("template", "alpaca"))
