"""The one place that spells the paths of a run's artifacts, relative to the run directory."""

from __future__ import annotations


class RunPaths:
    """Where everything is in a run directory."""

    recipe = "recipe.yaml"
    toyworld = "toyworld"
    triplets = "triplets"
    rejected = "triplets/rejected.json"
    triplets_staged = "triplets--staged"
    report = "report"
    all_reviews = "reviews"

    @staticmethod
    def reviews(rubric: str, judge_model: str) -> str:
        """Return the folder of one rubric's reviews by one judge."""
        return f"{RunPaths.all_reviews}/{_file_name(rubric)}--{_file_name(judge_model)}"

    @staticmethod
    def arm(arm: str) -> str:
        """Return the folder of an arm's training rows."""
        return f"arms/{arm}"

    @staticmethod
    def model(arm: str) -> str:
        """Return the Hugging Face folder of the model trained on an arm."""
        return f"models/{arm}"

    @staticmethod
    def checkpoints(arm: str) -> str:
        """Return the folder of the checkpoints that a training of an arm goes on from."""
        return f"checkpoints/{arm}"

    @staticmethod
    def replies(arm: str, model: str) -> str:
        """Return the folder that keeps a model's replies: to be asked once, whichever test sets are named."""
        return f"checkpoints/{arm}--replies-{model[:16]}"

    @staticmethod
    def answers(arm: str) -> str:
        """Return the folder of an arm's answers to the test sets."""
        return f"answers/{arm}"

    @staticmethod
    def benchmark(arm: str, name: str) -> str:
        """Return the folder of an arm's figure in one benchmark."""
        return f"benchmarks/{arm}/{_file_name(name)}"

    @staticmethod
    def verdicts(a: str, b: str, judge_model: str) -> str:
        """Return the folder of the verdicts on arm `a` against arm `b`."""
        return f"verdicts/{a}--vs--{b}--{_file_name(judge_model)}"

    @staticmethod
    def ranking(judge_model: str) -> str:
        """Return the folder of the arms' ranking by one judge."""
        return f"ranking/{_file_name(judge_model)}"

    @staticmethod
    def agreement(labels: str, judge_model: str) -> str:
        """Return the folder of a judge's agreement with a file of human labels."""
        name = labels.rstrip("/").rpartition("/")[2].partition(".")[0]
        return f"agreement/{_file_name(name)}--{_file_name(judge_model)}"

    @staticmethod
    def mt_bench(arm: str) -> str:
        """Return the folder of an arm's answers to MT-Bench."""
        return f"mt-bench/{arm}"

    @staticmethod
    def mt_bench_scores(arm: str, judge_model: str) -> str:
        """Return the folder of a judge's scores for these answers."""
        return f"mt-bench-scores/{arm}--{_file_name(judge_model)}"

    @staticmethod
    def mt_bench_verdicts(a: str, b: str, judge_model: str) -> str:
        """Return the folder of a judge's verdicts on the answers of `a` against those of `b`."""
        return f"mt-bench-verdicts/{a}--vs--{b}--{_file_name(judge_model)}"


def _file_name(name: str) -> str:
    """Return a name that is safe as one part of a path: meta-llama/Llama-3 becomes meta-llama_Llama-3."""
    return "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in name)
