import gc
import weakref

import pytest

from nextgpt_pl.utils.collection import frozen_objects


class _Cycle:
    def __init__(self):
        self.own = self


def test_objects_of_before_are_not_looked_at_and_new_ones_are():
    old = _Cycle()
    before = weakref.ref(old)
    with frozen_objects():
        assert gc.get_freeze_count()
        del old
        after = weakref.ref(_Cycle())
        gc.collect()
        assert (before() is None, after() is None) == (False, True)
    gc.collect()
    assert (before(), gc.get_freeze_count()) == (None, 0)


def test_it_ends_with_an_error_and_leaves_what_the_caller_has_frozen():
    with pytest.raises(ValueError, match="x"), frozen_objects():
        raise ValueError("x")
    assert not gc.get_freeze_count()
    own = _Cycle()
    frozen = weakref.ref(own)
    gc.freeze()
    try:
        with frozen_objects():
            pass
        del own
        gc.collect()
        # other frozen objects may be freed meanwhile, so their number says nothing
        assert frozen() is not None
    finally:
        gc.unfreeze()
