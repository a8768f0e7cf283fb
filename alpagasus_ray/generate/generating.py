"""Generation: an arm answers every test set, by the road that the recipe names. No Ray here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.answers import Answer, answers_to_jsonl
from alpagasus_ray.corpus.template import chat_message, render_prompt
from alpagasus_ray.corpus.testset_files import content_hashes, load_testsets
from alpagasus_ray.corpus.testsets import Prompt
from alpagasus_ray.errors import UserError
from alpagasus_ray.generate.roads import Road
from alpagasus_ray.generate.unanswered import describe_unanswered, show_reason, write_unanswered
from alpagasus_ray.llm.asking import Asked, failure_kind, num_passing
from alpagasus_ray.llm.chat import Message, Reply, Request, Sampling
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
        check_answer_length(recipe)
        served = {} if recipe.generate.base_url else {"serve": recipe.serve.shapes_result()}
        self.is_chat = trained_template(run, recipe, arm) == "chat"
        asked = {"template": "chat"} if self.is_chat else {}
        self._shaping = {**recipe.generate.shapes_result(), **served, **asked}
        self._hashed = {**self._shaping, "testsets": content_hashes(self.testsets)}

    def committed(self) -> Manifest | None:
        """Return the manifest where the answers are there already."""
        return self.run.committed(self.run.answers(self.arm), "generate", self._hashed, self._inputs)

    @cached_property
    def replies_of_before(self) -> Mapping[str, Reply] | None:
        """Each prompt's reply by its request's key; None unless all have one, and nobody need be asked."""
        keys = list({request.key for request in self.requests().values()})
        replies = self._replies()
        try:
            if len(replies.known(keys)) < len(keys):
                return None
            found = replies.find(keys)  # a reply that is damaged is not there
        finally:
            replies.close()
        return found if len(found) == len(keys) else None

    def lacking(self, made: Manifest) -> str | None:
        """Return in words what has no answer among those that are committed; None where all have one."""
        if not made.failures:
            return None
        unanswered = describe_unanswered(self.run, self.run.answers(self.arm), made.failures)
        return f"{self.arm} without an answer: {unanswered}"

    def requests(self) -> dict[tuple[str, str], Request]:
        """Return what is asked, by test set and prompt id."""
        settings = self.settings
        sampling = Sampling(
            settings.max_new_tokens,
            settings.temperature,
            settings.top_p,
            settings.stop,
            settings.seed if settings.is_drawn else None,
        )
        # The very string of training, sent raw: a chat template of the endpoint's could be another one. A
        # model that was trained with its own chat template has it beside its weights.
        render = chat_message if self.is_chat else render_prompt
        return {
            (testset.name, prompt.id): Request(
                messages=(Message("user", render(prompt.instruction, prompt.input)),),
                model=self.arm,
                sampling=sampling,
                raw_prompt=not self.is_chat,
            )
            for testset in self.testsets
            for prompt in testset.prompts
        }

    def make(self, road: Road, console: Console) -> Manifest:
        """Commit RUN/answers/<arm>/ and return its manifest.

        A prompt that gets no answer is a failure, counted; it stands in unanswered.json with its reason.
        Raises UserError when nothing at all can be answered.
        """
        asked: dict[tuple[str, str], Asked] = {}

        def write() -> Made:
            self._tell_what_leaves(before, console)
            return self._write(asked)

        before = self.run.manifest(self.run.answers(self.arm))
        manifest, _ = self.run.make(
            self.run.answers(self.arm),
            "generate",
            self._hashed,
            self._inputs,
            write,
            # Whatever may go wrong goes wrong here, while the answers of before are still there.
            check=lambda: asked.update(self._ask(road, console)),
        )
        sets = f"{len(self.testsets)} test set{'s' * (len(self.testsets) != 1)}"
        said = f"generate: {self.arm} answered {manifest.counts['answers']:,} prompts of {sets}"
        console.say("; ".join(filter(None, (said, self.lacking(manifest)))))
        if lacking := _unanswered(asked):
            place = f"generate: {self.arm}: {lacking[0]['id']} of {lacking[0]['testset']}"
            show_reason(console, place, lacking[0]["reason"])
        return manifest

    def _tell_what_leaves(self, there: Manifest | None, console: Console) -> None:
        """Say which answers are not among the test sets any more; the replies stay."""
        before = there.settings.get("testsets", {}) if there is not None else {}
        if gone := sorted(set(before) - {testset.name for testset in self.testsets}):
            console.say(
                f"generate: {self.arm}: {', '.join(gone)}: not among generate.testsets any more, so these "
                "answers leave the run; named again, they come back without being asked for"
            )

    def _ask(self, road: Road, console: Console) -> dict[tuple[str, str], Asked]:
        """Return what became of each request; raises UserError where none has an answer."""
        requests, ledger = self.requests(), self._replies()
        if there := len(ledger.known([request.key for request in requests.values()])):
            console.say(f"generate: {self.arm}: {there:,} of {len(requests):,} prompts were answered before")
        with console.progress(f"generate {self.arm}", len(requests), "prompts") as progress:
            answers = road(list(requests.values()), ledger, progress)
        asked = dict(zip(requests, answers, strict=True))
        if not any(one.reply for one in asked.values()):
            reasons = Counter(one.failure for one in asked.values()).most_common(1)
            raise UserError(f"{self.arm} answered no prompt at all ({reasons[0][0]})")
        return asked

    def _replies(self) -> Ledger:
        model = self._inputs.get(self.run.model(self.arm))
        # A request says nothing about how the model is served: other settings, other replies.
        shaped = settings_hash({**self._shaping, "model": model.content if model else None})
        return Ledger(self.run.child_uri(self.run.replies(self.arm, shaped)))

    def _write(self, asked: dict[tuple[str, str], Asked]) -> Made:
        folder = self.run.answers(self.arm)
        counts: dict[str, int] = {}
        failures: Counter[str] = Counter()
        finish_reasons: Counter[str] = Counter()
        tokens = Counter({"prompt_tokens": 0, "completion_tokens": 0})
        for testset in self.testsets:
            answers = []
            for prompt in testset.prompts:
                one = asked[testset.name, prompt.id]
                if one.reply is None:
                    failures[failure_kind(one.failure or "")] += 1
                    continue
                finish_reasons[one.reply.finish_reason] += 1
                for name in tokens:
                    tokens[name] += getattr(one.reply, name)
                answers.append(_answer(prompt, self.arm, one.reply))
            counts[testset.name] = len(answers)
            self.run.write_text(f"{folder}/{testset.name}.jsonl", answers_to_jsonl(answers))
        write_unanswered(self.run, folder, _unanswered(asked))
        return Made(
            # Not of the reasons: an endpoint says one thing in many words.
            content=self.run.content_of_files(folder, [f"{one.name}.jsonl" for one in self.testsets]),
            counts={**counts, "answers": sum(counts.values())},
            failures=failures,
            details={
                "finish_reasons": dict(finish_reasons),
                "passing_failures": num_passing(failures),
                "road": self.settings.road,
                **tokens,
            },
        )


def check_answer_length(recipe: Recipe) -> None:
    """Raise UserError where the stage's own endpoint would refuse to answer at the length that is wanted."""
    limit, wanted = recipe.serve.max_answer_tokens, recipe.generate.max_new_tokens
    is_own = recipe.generate.base_url is None and recipe.generate.road == "endpoint"
    if is_own and limit is not None and limit < wanted:
        raise UserError(
            f"serve.max_answer_tokens ({limit:,}) is less than generate.max_new_tokens ({wanted:,}): the "
            "endpoint would refuse every prompt. Raise the one, or lower the other"
        )


def _unanswered(asked: Mapping[tuple[str, str], Asked]) -> list[dict[str, str]]:
    return [
        {"testset": testset, "id": id, "reason": one.failure or ""}
        for (testset, id), one in asked.items()
        if one.reply is None
    ]


def _answer(prompt: Prompt, arm: str, reply: Reply) -> Answer:
    return Answer(
        prompt_id=prompt.id,
        model_id=arm,
        prompt=prompt.question,
        category=prompt.category,
        text=reply.text.strip(),
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )


def trained_template(run: RunDirectory, recipe: Recipe, arm: str) -> str:
    """Return what the arm's prompts were written into: as its manifest says, else as it would be trained."""
    manifest = run.manifest(run.model(arm))
    if manifest is None:
        return recipe.train.template
    return str(manifest.settings.get("template", "alpaca"))
