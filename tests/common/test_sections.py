import dataclasses

import pytest

from ffa_sora_jax.common import sections


@dataclasses.dataclass(frozen=True)
class Sizes:
    width: int = 8
    rate: float = 0.5
    name: str = "a"
    deep: bool = False
    folder: str | None = None
    scale: tuple[float, ...] = (1.0,)


def test_defaults_and_values():
    given = {"width": 4, "rate": 1, "folder": "x", "scale": [1, 2.0]}
    assert sections.read(Sizes, given, "model") == Sizes(4, 1, "a", False, "x", (1, 2.0))
    assert sections.read(Sizes, {"folder": None}, "model") == Sizes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"widht": 4}, "key of config.model 'widht'. Did you mean 'width'"),
        ({"width": "two"}, "config.model.width is 'two' of type str; it must be int."),
        ({"width": 1.5}, "width is 1.5 of type float; it must be int"),
        ({"width": True}, "width is True of type bool"),
        ({"width": None}, "width is None of type NoneType"),
        ({"rate": "0.1"}, "it must be float"),
        ({"deep": 1}, "deep is 1 of type int; it must be bool"),
        ({"folder": 3}, "it must be str or None"),
        ({"scale": 1.0}, "scale is 1.0 of type float; it must be tuple[float, ...]"),
    ],
)
def test_wrong_keys_and_types_are_named(given, message):
    with pytest.raises(ValueError) as error:
        sections.read(Sizes, given, "model")
    assert message in str(error.value)
