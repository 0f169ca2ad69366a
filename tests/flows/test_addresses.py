"""What a stack listens on, what its processes ask, and what people open are three things."""

import socket

import pytest

from flows.stack import Addresses

NAME = socket.gethostname()


@pytest.mark.parametrize(
    ("host", "asked", "opened"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "[2001:db8::7]", "[2001:db8::7]"),
        ("0.0.0.0", "127.0.0.1", NAME),
        ("::", "[::1]", NAME),
    ],
)
def test_all_addresses_are_none_to_ask_and_none_to_open(host, asked, opened):
    addresses = Addresses(host, port=4200, serve_port=8000, reports_port=9464)
    assert addresses.own_api == f"http://{asked}:4200/api"
    assert (addresses.ui, addresses.reports) == (f"http://{opened}:4200", f"http://{opened}:9464")


def test_a_server_that_others_run_is_asked_and_opened_where_it_is():
    addresses = Addresses("0.0.0.0", port=4200, serve_port=8000, reports_port=9464, api="https://prefect.example/api")
    assert (addresses.own_api, addresses.ui) == ("https://prefect.example/api", "https://prefect.example")
