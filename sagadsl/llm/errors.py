"""What can go wrong between a step and its model. `TransportError` alone is worth another attempt."""

from __future__ import annotations

from typing import Any

from sagadsl import SagaError


class LLMError(SagaError):
    """*model* gave no usable answer, for *reason*. *tries* are the calls made so far, as plain data."""

    model: str
    reason: str
    tries: tuple[dict[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.model}: {self.reason}"


class TransportError(LLMError):
    """No whole answer came: refused, dropped, cut, too slow, a server that fails. The step's *retries* are for this."""


class RefusedError(LLMError):
    """The server will not do it however often it is asked; the *reason* ends with the command to type."""


class TruncatedError(LLMError):
    """The answer was cut at the token limit, and again at a higher one, or at the end of the model's context."""


class InvalidAnswerError(LLMError):
    """The answer is not what ``returns=`` asks for, and the repairs are used up."""


class TokenBudgetError(LLMError):
    """The run has used the tokens it may use. No call was made."""


def is_final(error: BaseException) -> bool:
    """Tell whether the same call would come to the same end."""
    return isinstance(error, LLMError) and not isinstance(error, TransportError)


class Short:
    """Within it a model is called. What comes out shows where it was asked, and not the way to the server.

    The text of an error says what is wrong, and an interruption may come anywhere on the way.
    """

    def __enter__(self) -> None:
        """Begin to ask."""

    def __exit__(self, cls: object, error: BaseException | None, traceback: object) -> None:
        """Forget the way."""
        if error is not None and (isinstance(error, LLMError) or not isinstance(error, Exception)):
            error.__traceback__ = None
