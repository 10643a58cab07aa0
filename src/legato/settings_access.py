"""Settings of accounts and of sign-in at an issuer: the tables `[accounts]` and `[oidc]` of legato.toml."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


class AccountSettings(BaseModel):
    """The `[accounts]` table: passwords, and how long pages stay signed in."""

    model_config = ConfigDict(extra="forbid")

    passwords: bool = Field(True, description="Whether an account's name and password sign in; else the issuer alone.")
    min_password_chars: int = Field(12, ge=8, le=128, description="Least characters of a new password.")
    session_idle_h: float = Field(336, gt=0, le=8760, description="After so long without use a signed-in page is out.")
    session_max_h: float = Field(2160, gt=0, le=8760, description="So long after signing in a page is out in any case.")
    session_rotate_h: float = Field(24, gt=0, le=8760, description="How often a page in use gets a new cookie.")


class OidcSettings(BaseModel):
    """The `[oidc]` table: an OpenID Connect issuer where people sign in."""

    model_config = ConfigDict(extra="forbid")

    issuer: str = Field(description="Its address, exactly as it calls itself, such as https://login.example.com.")
    client_id: str = Field(min_length=1, max_length=500, description="What it knows this server by.")
    client_secret: SecretStr | None = Field(None, description="The secret it gave. Better: `client_secret_env`.")
    client_secret_env: str | None = Field(None, description="Environment variable that holds the secret.")
    label: str = Field("", max_length=60, description="What the button says: “Continue with …”; its host by default.")
    scopes: list[str] = Field(
        default_factory=lambda: ["openid", "profile", "email"], description="What is asked for; `openid` always is."
    )
    public_url: str | None = Field(
        None,
        description="This server's address as browsers see it, such as https://chat.example.com; by default that of "
        "the page that asks. The issuer has to know it with /sign-in/issuer/callback behind it.",
    )
    allowed_domains: list[str] = Field(
        default_factory=list, description="Domains of verified e-mail addresses whose people may come in."
    )
    allowed_groups: list[str] = Field(default_factory=list, description="Groups whose people may come in.")
    allow_everybody: bool = Field(
        False, description="Whether whoever has an account at the issuer may come in; else name domains or groups."
    )
    groups_claim: str = Field(
        "groups", description="Claim that lists a person's groups or roles; dots lead inwards: `realm_access.roles`."
    )
    admin_groups: list[str] = Field(default_factory=list, description="Groups whose people are admins here.")
    client_auth: Literal["basic", "post"] = Field("basic", description="How the secret is sent to the issuer.")

    def __str__(self) -> str:
        return self.issuer

    @field_validator("issuer", "public_url")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS)
        if not secure or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError("name an address that begins with https:// (http:// on this machine alone)")
        return value

    @field_validator("public_url")
    @classmethod
    def _check_origin(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).path not in ("", "/"):
            raise ValueError("name scheme, host and port alone, such as https://chat.example.com")
        return value.rstrip("/").lower() if value is not None else None

    @model_validator(mode="after")
    def _check_who(self) -> OidcSettings:
        if not (self.allowed_domains or self.allowed_groups or self.allow_everybody):
            raise ValueError(
                "nobody may come in: set allowed_domains, allowed_groups, or allow_everybody = true if the issuer is "
                "your own"
            )
        if self.allow_everybody and (self.allowed_domains or self.allowed_groups):
            raise ValueError("allow_everybody contradicts allowed_domains and allowed_groups: leave one out")
        return self
