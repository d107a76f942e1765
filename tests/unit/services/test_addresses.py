import pytest

from nemo_cosmos.services.addresses import is_on_this_machine


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:8265", True),
        ("http://127.0.0.1:8265/x", True),
        ("http://127.0.1.1", True),  # what Debian gives the machine's own name
        ("http://[::1]:8000/v1", True),
        ("https://localhost.example.com/v1", False),
        ("http://10.0.0.1:8265", False),
        ("http://[2001:db8::1]/v1", False),
        ("nonsense", False),
    ],
)
def test_no_proxy_is_asked_for_this_machine(url, expected):
    assert is_on_this_machine(url) is expected
