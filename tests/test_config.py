"""The environment becomes one frozen object; what cannot be used is named, not shown."""

import dataclasses
from pathlib import Path
from typing import get_args

import pytest

from rag.config import DEFAULT_EMBED_MODEL, DEFAULT_MODEL, Config, ResponseMode, parse_auth
from rag.errors import ConfigurationError


def test_an_empty_environment_gives_the_defaults() -> None:
    config = Config.from_env({})
    assert config == Config()
    assert (config.model, config.embed_model) == (DEFAULT_MODEL, DEFAULT_EMBED_MODEL)
    assert config.auth == ()
    assert not config.offers_openai
    assert config.data_dir.is_absolute()


def test_every_variable_reaches_its_attribute() -> None:
    config = Config.from_env(
        {
            "RAG_MODEL": "org/model",
            "RAG_EMBED_MODEL": "org/embed",
            "RAG_DATA_DIR": "/data",
            "RAG_TOP_K": "5",
            "RAG_MAX_NEW_TOKENS": "99",
            "RAG_RESPONSE_MODE": "tree_summarize",
            "RAG_MAX_FILE_MB": "7",
            "RAG_READ_TIMEOUT": "11",
            "RAG_FEEDBACK": "off",
            "RAG_AUTH": "ann:one, ben:two:three",
            "RAG_OPEN": "on",
            "OPENAI_API_KEY": "sk-1",
            "OPENAI_BASE_URL": "http://localhost:8000/v1/",
            "PORT": "8080",
            "RAG_ROOT_PATH": "/team/rivulet/",
            "RAG_METRICS_PORT": "9090",
        }
    )
    assert config == Config(
        model="org/model",
        embed_model="org/embed",
        data_dir=Path("/data"),
        top_k=5,
        max_new_tokens=99,
        response_mode="tree_summarize",
        max_file_mb=7,
        read_timeout=11,
        feedback=False,
        auth=(("ann", "one"), ("ben", "two:three")),
        open=True,
        openai_api_key="sk-1",
        openai_base_url="http://localhost:8000/v1",
        port=8080,
        root_path="/team/rivulet",
        metrics_port=9090,
    )


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_TOP_K", "9")
    assert Config.from_env().top_k == 9


def test_blank_variables_count_as_unset_and_others_are_trimmed() -> None:
    config = Config.from_env({"RAG_MODEL": "  ", "OPENAI_API_KEY": "", "RAG_TOP_K": " 4\n"})
    assert config == Config(top_k=4)


def test_the_home_sign_is_expanded() -> None:
    assert Config.from_env({"RAG_DATA_DIR": "~/rivulet"}).data_dir == Path.home() / "rivulet"


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_BASE_URL"])
def test_a_key_or_an_address_offers_openai(variable: str) -> None:
    assert Config.from_env({variable: "http://x"}).offers_openai


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RAG_TOP_K", "0"),
        ("RAG_TOP_K", "-1"),
        ("RAG_TOP_K", "many"),
        ("RAG_MAX_NEW_TOKENS", "1.5"),
        ("RAG_MAX_FILE_MB", "0"),
        ("RAG_READ_TIMEOUT", "soon"),
        ("RAG_FEEDBACK", "maybe"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "http"),
        ("RAG_METRICS_PORT", "0"),
        ("RAG_ROOT_PATH", "rivulet"),
        ("RAG_ROOT_PATH", "/a b"),
        ("RAG_ROOT_PATH", "/a//b"),
        ("RAG_ROOT_PATH", "https://example.org/rivulet"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{variable} cannot be used: it has to be "):
        Config.from_env({variable: value})


@pytest.mark.parametrize(
    ("value", "on"),
    [("on", True), ("True", True), ("1", True), ("OFF", False), ("false", False), ("no", False)],
)
def test_a_switch_has_several_words(value: str, on: bool) -> None:
    assert Config.from_env({"RAG_FEEDBACK": value}).feedback is on


@pytest.mark.parametrize("mode", get_args(ResponseMode))
def test_every_response_mode_can_be_set(mode: str) -> None:
    assert Config.from_env({"RAG_RESPONSE_MODE": f" {mode} "}).response_mode == mode


@pytest.mark.parametrize("value", ["Compact", "tree", "compact,refine"])
def test_a_response_mode_that_does_not_exist_names_those_that_do(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^RAG_RESPONSE_MODE cannot be used: ") as caught:
        Config.from_env({"RAG_RESPONSE_MODE": value})
    assert all(mode in str(caught.value) for mode in get_args(ResponseMode))


def test_weights_are_kept_below_the_data_folder() -> None:
    assert Config.from_env({"RAG_DATA_DIR": "/data"}).models_dir == Path("/data/models")


@pytest.mark.parametrize("value", ["hunter2", "ann:", ":hunter2", "ann:hunter2,ben", "ann:x,"])
def test_a_bad_login_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(ConfigurationError, match="user:password") as caught:
        Config.from_env({"RAG_AUTH": value})
    assert "hunter2" not in str(caught.value)
    # A traceback prints the chain too.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_login_of_several_people() -> None:
    assert parse_auth("ann:1,ben:2") == (("ann", "1"), ("ben", "2"))


def test_secrets_are_not_in_the_representation() -> None:
    config = Config(openai_api_key="sk-secret", auth=(("ann", "hunter2"),))
    assert "sk-secret" not in repr(config)
    assert "hunter2" not in repr(config)


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().top_k = 1  # type: ignore[misc]


@pytest.mark.parametrize("there", [True, False])
def test_on_a_space_data_is_kept_where_it_outlasts_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    disk = tmp_path / "data"
    if there:
        disk.mkdir()
    monkeypatch.setattr("rag.config.SPACE_DISK", disk)
    space = Config.from_env({"SPACE_ID": "ann/rivulet", "SPACES_ZERO_GPU": "true"})
    assert space.on_space
    assert space.zero_gpu
    assert space.data_dir == (disk / "rivulet" if there else Config().data_dir)
    assert Config.from_env({}).data_dir == Config().data_dir
    chosen = Config.from_env({"SPACE_ID": "ann/rivulet", "RAG_DATA_DIR": "/elsewhere"})
    assert chosen.data_dir == Path("/elsewhere")
