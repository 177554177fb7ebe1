"""What lists its facts as annotations takes these, and no others."""

import pytest

from sagadsl._core.structs import Struct
from sagadsl.errors import StepTimeout


class Pair(Struct):
    """Two facts, of which one has a default."""

    one: int
    other: int = 2


@pytest.mark.parametrize("listing", [Pair, StepTimeout])
@pytest.mark.parametrize(("values", "named"), [((), {}), ((1, 2, 3), {}), ((1, 2), {"further": 3})])
def test_what_is_missing_or_unknown_is_refused(listing, values, named):
    """A misspelt name would otherwise be as good as none."""
    with pytest.raises(TypeError, match=rf"{listing.__name__}\(.*\) was given"):
        listing(*values, **named)


def test_what_is_changed_leaves_the_rest_as_it_was():
    """What was set beside the facts is no fact, and stays behind."""
    pair = Pair(1, other=3)
    pair.beside = True
    assert vars(pair.changed(one=5)) == {"one": 5, "other": 3}
    assert vars(pair)["one"] == 1
