"""What an issuer says of a person: who may come in, as what, and which e-mail address counts."""

from __future__ import annotations

from typing import Any

import pytest

from legato.http.oidc_claims import PersonRefused, join_claims, read_person, says_who
from legato.settings_access import OidcSettings

ANN: dict[str, Any] = {
    "sub": "248289761001",
    "name": "Ann Example",
    "email": "ann@example.com",
    "email_verified": True,
    "groups": ["staff"],
}


def settings_of(**more: Any) -> OidcSettings:
    if not {"allowed_domains", "allowed_groups"} & more.keys():
        more = {"allow_everybody": True} | more
    return OidcSettings(issuer="https://login.example", client_id="x", **more)


ROLES = [
    ({"admin_groups": ["ops"]}, {}, "member"),
    ({"admin_groups": ["staff"]}, {}, "admin"),
    (
        {"admin_groups": ["admin"], "groups_claim": "realm_access.roles"},
        {"realm_access": {"roles": ["admin"]}},
        "admin",
    ),
    (
        {"admin_groups": ["admin"], "groups_claim": "https://x.example/roles"},
        {"https://x.example/roles": "admin"},
        "admin",
    ),
    ({"admin_groups": ["admin"]}, {"groups": {"admin": True}}, "member"),
    ({"allowed_domains": ["example.com"]}, {}, "member"),
    ({"allowed_domains": ["@Example.COM"]}, {}, "member"),
    ({"allowed_domains": ["example.com"]}, {"email_verified": False}, None),
    ({"allowed_domains": ["example.com"]}, {"email_verified": "true"}, None),
    ({"allowed_domains": ["example.com"]}, {"email": "ann@evil-example.com"}, None),
    ({"allowed_domains": ["example.com"]}, {"email": "ann@example.com@evil.example"}, None),
    ({"allowed_domains": ["example.com"]}, {"email": "example.com"}, None),
    ({"allowed_groups": ["staff"]}, {}, "member"),
    ({"allowed_groups": ["staff"]}, {"groups": ["guests"]}, None),
    ({"allowed_groups": ["staff"]}, {"groups": None}, None),
    ({"allowed_groups": ["staff"], "allowed_domains": ["other.example"]}, {}, "member"),
]


@pytest.mark.parametrize(("settings", "claims", "role"), ROLES, ids=str)
def test_who_may_come_in_and_as_what(settings: dict[str, Any], claims: dict[str, Any], role: str | None) -> None:
    """By groups and by verified e-mail addresses; everybody else may not."""
    if role is None:
        with pytest.raises(PersonRefused):
            read_person(ANN | claims, settings_of(**settings))
    else:
        assert read_person(ANN | claims, settings_of(**settings)).role == role


EMAIL = {"email": "a@one.example", "email_verified": True}
OTHER = {"email": "b@two.example", "email_verified": False}


@pytest.mark.parametrize(
    ("token", "more", "joined"),
    [
        (EMAIL, OTHER, EMAIL),
        (OTHER, EMAIL, OTHER),
        ({}, EMAIL, EMAIL),
        ({"email": "b@two.example"}, EMAIL, EMAIL),
        ({"email_verified": True}, OTHER, OTHER),
        ({"email": "b@two.example"}, {"email_verified": True}, {"email_verified": True}),
        ({"email_verified": True}, {"email": "b@two.example"}, {"email": "b@two.example"}),
        ({"email": "b@two.example"}, {}, {}),
        ({"sub": "1", "name": "A"}, {"name": "B", "groups": ["x"]}, {"sub": "1", "name": "A", "groups": ["x"]}),
    ],
)
def test_an_address_and_whether_it_is_verified_are_of_one_document(
    token: dict[str, Any], more: dict[str, Any], joined: dict[str, Any]
) -> None:
    """The token's where it says both, else userinfo's; of the rest the token has the last word."""
    assert join_claims(token, more) == joined


@pytest.mark.parametrize("missing", ["email", "email_verified", "groups"])
def test_the_issuer_is_asked_for_what_a_token_leaves_out(missing: str) -> None:
    """Where it decides who comes in; else it is not asked."""
    cut = {name: value for name, value in ANN.items() if name != missing}
    wanted = {"allowed_groups": ["staff"]} if missing == "groups" else {"allowed_domains": ["example.com"]}
    assert says_who(ANN, settings_of(**wanted))
    assert not says_who(cut, settings_of(**wanted))
    assert says_who(cut, settings_of())
