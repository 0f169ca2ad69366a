"""Nobody comes in without the token, by whatever route, or by a name that the server does not have."""

import re

import pytest
from fake_model import EXAMPLE, FakePredictor, serving
from starlette.datastructures import Headers

from noria.config import ServeConfig
from noria.errors import ConfigError
from noria.serving.app import create_app
from noria.serving.guard import OPEN, guard_of
from noria.serving.page import PUBLIC

TOKEN = "a long secret"
HEALTH = {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}


@pytest.fixture
def guarded(monkeypatch):
    monkeypatch.setenv("NORIA_TOKEN", TOKEN)
    with serving({"a": FakePredictor()}) as running:
        yield running


def routes(app):
    """Path and method of all that the application serves, documentation included; parameters filled in."""
    found = set()
    for route in app.routes:
        inner = getattr(route, "original_router", None)
        for one in [route] if inner is None else inner.routes:
            found |= {(re.sub(r"\{\w+\}", "a", one.path), method) for method in one.methods}
    return found


def test_every_route_but_those_of_health_and_the_page_wants_the_token(guarded):
    asked = routes(guarded.app)
    assert {path for path, _ in asked} >= {"/predict", "/models/a/predict", "/v2", "/metrics", "/docs", "/openapi.json"}
    assert {path for path, _ in asked} >= {"/about", "/models/a/cards", "/models/a/history", "/feedback", *PUBLIC}
    assert len(asked) >= 20
    for path, method in asked:
        status = guarded.client.request(method, path, json=EXAMPLE).status_code
        assert status == (401 if path not in HEALTH | PUBLIC else 200 if method == "GET" else 405), (path, method)


def test_the_routes_of_health_and_the_files_of_the_page_are_the_only_open_ones():
    assert OPEN == HEALTH
    assert all(path == "/" or re.fullmatch(r"/page/\w+\.(js|css)", path) for path in PUBLIC)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \xff"]
)
def test_a_wrong_token_is_refused_and_told_how_to_send_it(guarded, header):
    answer = guarded.client.post("/predict", json=EXAMPLE, headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Bearer TOKEN" in answer.json()["error"]["expected"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_token_opens_everything(guarded, scheme):
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    assert guarded.client.post("/predict", json=EXAMPLE, headers=headers).status_code == 200
    assert guarded.client.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["//predict", "/healthz/../predict", "/%70redict", "/healthz/", "/v2/health/live/"])
def test_no_way_of_writing_a_path_leads_around_the_token(guarded, path):
    assert guarded.client.post(f"{guarded.url}{path}", json=EXAMPLE).status_code == 401


def test_a_token_that_is_asked_for_and_not_there_is_one_clear_error(monkeypatch):
    monkeypatch.delenv("NORIA_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="SECRET_OF_OURS holds no token"):
        create_app({"a": FakePredictor()}, config=ServeConfig(token_env="SECRET_OF_OURS"))
    with pytest.raises(ConfigError, match="NORIA_TOKEN holds no token"):
        guard_of(ServeConfig(), {"NORIA_TOKEN": " "})
    assert guard_of(ServeConfig(), {}).tokens == ()
    with pytest.raises(ConfigError, match="or an empty one"):
        guard_of(ServeConfig(), {"NORIA_TOKEN": "x,,y"})
    assert guard_of(ServeConfig(token_env="MINE"), {"MINE": "x", "NORIA_TOKEN": "y"}).tokens == (b"x",)


def test_each_of_several_tokens_opens_and_is_a_client():
    guard = guard_of(ServeConfig(), {"NORIA_TOKEN": "one, two"})
    clients = []
    for given in ("one", "two", "three", "one, two"):
        headers = Headers({"authorization": f"Bearer {given}", "host": "localhost"})
        assert (guard.refusal("/predict", headers) is None) == (given in ("one", "two"))
        clients.append(guard.client(headers, ("10.0.0.1", 80)))
    assert clients == ["token 0", "token 1", "10.0.0.1", "10.0.0.1"]


def test_with_one_token_or_none_a_client_is_an_address_and_of_ipv6_a_network():
    headers = Headers({"authorization": "Bearer x"})
    for environment in ({}, {"NORIA_TOKEN": "x"}):
        guard = guard_of(ServeConfig(), environment)
        assert guard.client(headers, ("10.0.0.1", 80)) == "10.0.0.1"
        assert guard.client(headers, ("2001:db8::1", 80)) == guard.client(headers, ("2001:db8::2", 81))
        assert guard.client(headers, None) == ""


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("models.example.org", 200),
        ("evil.example.org", 400),
        ("localhost.evil.org", 400),
        ("192.168.0.7", 400),
        ("", 400),
    ],
)
def test_a_server_answers_to_its_own_names_only(host, status):
    with serving({"a": FakePredictor()}, hosts=("Models.example.org",)) as running:
        answer = running.client.post("/predict", json=EXAMPLE, headers={"Host": host})
        assert answer.status_code == status
        assert running.client.get("/healthz", headers={"Host": host}).status_code == 200


def test_a_server_on_all_addresses_answers_to_any_address_and_to_no_unknown_name():
    with serving({"a": FakePredictor()}, host="0.0.0.0") as running:
        for host, status in (("192.168.0.7:8000", 200), ("[fe80::1]", 200), ("evil.example.org", 400)):
            assert running.client.post("/predict", json=EXAMPLE, headers={"Host": host}).status_code == status


def test_a_star_answers_to_every_name():
    with serving({"a": FakePredictor()}, hosts=("*",)) as running:
        assert running.client.post("/predict", json=EXAMPLE, headers={"Host": "any.org"}).status_code == 200
