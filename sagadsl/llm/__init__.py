"""LLM steps: paid once, validated, archived. The body of a step returns the prompt, the step the model's answer.

    assistant = LLM("llama3.2", system="You are terse.")

    @assistant.step(returns=Plan)
    def plan(topic: str) -> str:
        return f"Plan research on {topic}."

Inside a saga the answer is recorded with its provenance; a failure archives it; a resumed run asks nothing again that
was answered. Ollama's own client is used, which comes with ``pip install 'sagadsl[llm]'``; another provider is one
small class, a `Model`.
"""

from sagadsl.llm.assistant import LLM, LLMStep
from sagadsl.llm.errors import (
    InvalidAnswerError,
    LLMError,
    RefusedError,
    TokenBudgetError,
    TransportError,
    TruncatedError,
)
from sagadsl.llm.provenance import Answer, answers, archive, archived, discard, keep
from sagadsl.llm.values import Model, Progress, Reply, Request, Timeouts, Vectors

__all__ = [
    "LLM",
    "Answer",
    "InvalidAnswerError",
    "LLMError",
    "LLMStep",
    "Model",
    "Progress",
    "RefusedError",
    "Reply",
    "Request",
    "Timeouts",
    "TokenBudgetError",
    "TransportError",
    "TruncatedError",
    "Vectors",
    "answers",
    "archive",
    "archived",
    "discard",
    "keep",
]
