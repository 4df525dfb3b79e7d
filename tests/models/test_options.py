"""What stands behind the question mark of an encoder's URI."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxsight.errors import EncoderError, UnknownEncoder
from maxsight.models.encoder import load
from maxsight.models.options import Options, parse

SPELLINGS = {
    "merge": [
        "13",
        "013",
        "13,-1",
        "13,-.50",
        "13,0",
        "8+8+4",
        "8+0+0",
        "50%",
        "12.5%",
        "0",
        "100%",
    ],
    "tokens": ["last", "value", "self"],
    "tempscale": ["0.9", ".90", "1", "1.0", "2"],
}


@given(
    scheme=st.sampled_from(["builtin", "open_clip", "st", "hf-hub"]),
    name=st.text("abc/-:?=&", max_size=8),
    chosen=st.fixed_dictionaries(
        {}, optional={k: st.sampled_from(v) for k, v in SPELLINGS.items()}
    ),
    draw=st.randoms(),
)
def test_a_uri_survives_being_written_out(scheme, name, chosen, draw) -> None:  # type: ignore[no-untyped-def]
    order = draw.sample(sorted(chosen), len(chosen))
    uri = f"{scheme}:{name}?" + "&".join(f"{key}={chosen[key]}" for key in order)
    parsed = parse(uri)
    assert parsed[:2] == (scheme, name)
    assert parse(str(parsed)) == parsed
    assert str(parse(str(parsed))) == str(parsed)


@pytest.mark.parametrize(
    ("uri", "canonical"),
    [
        ("builtin", "builtin"),
        ("builtin:?", "builtin"),
        ("open_clip:ViT-B-16/openai", "open_clip:ViT-B-16/openai"),
        ("st:a?tokens=value&merge=013", "st:a?merge=13&tokens=value"),
        ("st:a?merge=13,0", "st:a?merge=13"),
        ("st:a?merge=13,-1.00", "st:a?merge=13,-1"),
        ("st:a?merge=8+0+0", "st:a?merge=8+0"),
        ("st:a?merge=50.0%", "st:a?merge=50%"),
        ("st:a?merge=0", "st:a"),
        ("st:a?merge=0,-1", "st:a"),
        ("st:a?merge=0+0", "st:a"),
        ("st:a?merge=100%", "st:a"),
        ("st:a?tempscale=1.0", "st:a"),
        ("st:a?tempscale=.90", "st:a?tempscale=0.9"),
        ("open_clip:local-dir:/a?b?", "open_clip:local-dir:/a?b?"),
        ("open_clip:local-dir:/a?b?merge=2", "open_clip:local-dir:/a?b?merge=2"),
    ],
)
def test_one_encoder_has_one_spelling(uri: str, canonical: str) -> None:
    assert str(parse(uri)) == canonical


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("merg=3", "there are merge"),
        ("merge", "a number as 13"),
        ("merge=", "a number as 13"),
        ("merge=-3", "a number as 13"),
        ("merge=1.5", "a number as 13"),
        ("merge=13,2", "inflection from -1 to 1"),
        ("merge=13,nan", "inflection from -1 to 1"),
        ("merge=1,2,3", "inflection from -1 to 1"),
        ("merge=8+", "a number a layer"),
        ("merge=0%", "the share of the patches"),
        ("merge=101%", "the share of the patches"),
        ("merge=nan%", "the share of the patches"),
        ("tokens=first", "last, value or self"),
        ("tempscale=0", "above 0"),
        ("tempscale=nan", "above 0"),
        ("tempscale=inf", "above 0"),
        ("merge=3&merge=4", "twice"),
        ("merge=3&", "no option ''"),
    ],
)
def test_a_bad_option_is_told_what_is_allowed(options: str, told: str) -> None:
    with pytest.raises(UnknownEncoder) as caught:
        load(f"open_clip:ViT-B-32/openai?{options}")
    assert told in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_encoder_refuses_what_it_does_not_support() -> None:
    with pytest.raises(EncoderError, match="builtin does not support the option merge"):
        load("builtin?merge=13")
    with pytest.raises(EncoderError, match=r"merge or tempscale.*it takes tokens"):
        Options(merge="3", tempscale=0.9).require_only(("tokens",), encoder="x")
    Options(merge="3").require_only(("merge",), encoder="x")


def test_an_unknown_scheme_is_told_the_known_ones() -> None:
    with pytest.raises(UnknownEncoder, match="builtin, hf-hub, open_clip, st"):
        load("clip:ViT-B-32?merge=13")
