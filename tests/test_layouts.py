from hypothesis import given
from hypothesis import strategies as st

from uws_core.analysis.layouts import agree, grouped
from uws_core.nouns.models import LayerKey, LeftOut


def keys(*names: str, shape: tuple[int, int] = (2, 2)) -> list[LayerKey]:
    return [LayerKey(name, shape) for name in names]


class TestAgreement:
    def test_the_larger_family_wins_whatever_the_order(self):
        family = {f"f{i}": keys("a", "b", "c") for i in range(3)}
        others = {f"o{i}": keys("x", "y") for i in range(2)}
        for models in (family | others, others | family):
            found = agree(models)
            assert {list(models)[i] for i in found.kept} == set(family)

    def test_members_of_one_family_that_all_differ_a_little_stay_together(self):
        models = {f"m{i}": keys("a", "b", "c", f"own{i}") for i in range(4)} | {"odd": keys("z")}
        found = agree(models)
        assert len(found.kept) == 4
        assert [layer.name for layer in found.layers] == ["a", "b", "c"]

    def test_ranks_of_factor_views_have_no_vote(self):
        models = {f"m{r}": keys("q") + keys("q:A", shape=(r, 2)) + keys("q:B", shape=(2, r)) for r in (1, 2, 3)}
        found = agree(models)
        assert len(found.kept) == 3
        assert found.layers == (LayerKey("q", (2, 2)),)

    def test_half_of_the_layers_is_the_same_architecture_and_less_is_not(self):
        usual = {f"m{i}": keys("a", "b", "c", "d") for i in range(3)}
        found = agree(usual | {"half": keys("a", "b", "x"), "less": keys("a", "y", "z")})
        assert found.kept == (0, 1, 2, 3)
        assert found.left_out[0].reason == "another architecture: it shares 1 of the 4 layers of the 4 other models"

    def test_no_models_agree_on_nothing(self):
        assert agree({}).kept == ()

    @given(
        st.dictionaries(
            st.text(min_size=1, max_size=2),
            st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(1, 2), st.integers(1, 2)), max_size=5),
            max_size=6,
        )
    )
    def test_every_model_and_every_layer_is_kept_or_listed(self, models: dict[str, dict[str, tuple[int, int]]]):
        laid_out = {label: [LayerKey(*item) for item in layers.items()] for label, layers in models.items()}
        found = agree(laid_out)
        kept = [list(laid_out)[i] for i in found.kept]
        listed = {note.what for note in found.left_out}
        assert set(laid_out) - set(kept) <= listed
        for label in kept:
            assert set(found.layers) <= set(laid_out[label])
            assert {layer.name for layer in laid_out[label]} <= {layer.name for layer in found.layers} | listed


def test_one_reason_in_several_models_is_one_note():
    note = LeftOut("bias", "a vector")
    assert grouped({"a": [note], "b": [note]}) == (note,)
    assert grouped({"a": [], "b": [note], "c": [note]}) == (LeftOut("bias", "a vector (in 2 of 3 models, first b)"),)
