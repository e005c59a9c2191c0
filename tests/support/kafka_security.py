"""Who may enter a secured Kafka cluster, by what, and what it may do there.

Users are `admin`, who may do everything, and `alice` and `bob`, who may do nothing until it is granted; USERS has their
passwords, for SCRAM-SHA-256, SCRAM-SHA-512 and PLAIN alike.  The client certificate `client` is the principal
`User:CN=client`.  Listeners, by name:

- `PLAINTEXT`: everything is allowed to everyone
- `SASL_SSL`: user and password, over TLS
- `SASL_PLAINTEXT`: user and password, without TLS
- `SSL`: a client certificate
- `MISNAMED`: as SASL_SSL, but the certificate holds for another host
"""

import asyncio
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest

from support.certificates import Authority
from support.kafka_admin import Admin, Administration, NotYetError

__all__ = ["LISTENERS", "USERS", "Operation", "Resource", "Rights", "Secrets", "format_arguments"]

USERS = {"admin": "admin-secret", "alice": "alice-secret", "bob": "bob-secret"}
LISTENERS = {
    "SASL_SSL": "SASL_SSL",
    "SASL_PLAINTEXT": "SASL_PLAINTEXT",
    "SSL": "SSL",
    "MISNAMED": "SASL_SSL",
}
"""Their protocols; besides PLAINTEXT, which every cluster has."""
_SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_LITERAL, _PREFIXED = 3, 4
_ALLOW = 3
_ANY = 1
_ANYTHING = (_ANY, None, _ANY, None, None, _ANY, _ANY)


class Resource(IntEnum):
    """What access is granted to."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    """Its name is CLUSTER_NAME."""
    TRANSACTIONAL_ID = 5


class Operation(IntEnum):
    """What is granted."""

    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12


class Secrets:
    """The files that clients need: two authorities, of which the cluster knows one, and certificates by them."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory / "certificates")
        self.stranger = Authority(directory / "strangers", "stranger-ca")
        self.client = self.authority.issue("client")
        self.stranger_client = self.stranger.issue("client")
        self._broker = self.authority.issue("broker")
        self._misnamed = self.authority.issue("misnamed", "DNS:elsewhere.example")

    @property
    def ca_file(self) -> Path:
        """What clients must trust."""
        return self.authority.certificate

    def properties(self) -> dict[str, str]:
        """The cluster's side."""
        return {
            "sasl.enabled.mechanisms": ",".join(["PLAIN", *_SCRAM]),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._broker.together),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca_file),
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.misnamed.ssl.keystore.type": "PEM",
            "listener.name.misnamed.ssl.keystore.location": str(self._misnamed.together),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:admin",
            **dict(_logins()),
        }


def _logins() -> Iterator[tuple[str, str]]:
    package = "org.apache.kafka.common.security"
    users = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
    for listener, protocol in LISTENERS.items():
        if protocol.startswith("SASL"):
            prefix = f"listener.name.{listener.lower()}"
            yield f"{prefix}.plain.sasl.jaas.config", f"{package}.plain.PlainLoginModule required {users};"
            for mechanism in _SCRAM:
                login = f"{package}.scram.ScramLoginModule required;"
                yield f"{prefix}.{mechanism.lower()}.sasl.jaas.config", login


def format_arguments() -> list[str]:
    """What tells a new cluster its users for SCRAM."""
    return [
        argument
        for mechanism in _SCRAM
        for name, password in USERS.items()
        for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
    ]


class Rights:
    """Access to a secured cluster."""

    CLUSTER_NAME = "kafka-cluster"

    def __init__(self, cluster: Administration) -> None:
        self._cluster = cluster

    async def grant(
        self, user: str, resource: Resource, name: str, *operations: Operation, prefixed: bool = False
    ) -> None:
        """Allow operations to a user, from now on; a prefix stands for all names that begin with it."""
        for operation in operations:
            entry = _entry(user, resource, name, operation, prefixed=prefixed)
            await self._change(CreateAclsRequest(*entry), DescribeAclsRequest(*entry), expected=True)

    async def revoke(
        self, user: str, resource: Resource, name: str, *operations: Operation, prefixed: bool = False
    ) -> None:
        """Take back what was granted in the same words."""
        for operation in operations:
            entry = _entry(user, resource, name, operation, prefixed=prefixed)
            await self._change(DeleteAclsRequest(*entry), DescribeAclsRequest(*entry), expected=False)

    async def revoke_all(self) -> None:
        """Take back all that was granted to anyone."""
        await self._change(DeleteAclsRequest(*_ANYTHING), DescribeAclsRequest(*_ANYTHING), expected=False)

    async def _change(self, change: object, question: object, *, expected: bool) -> None:
        async def hear(admin: Admin) -> None:
            answers = await asyncio.gather(*(admin.ask(node, question) for node in self._cluster.living))
            if any(bool(answer.resources) is not expected for answer in answers):
                raise NotYetError("not every node knows of it")

        await self._cluster.insist(lambda admin: admin.ask_controller(change))
        await self._cluster.insist(hear)


def _entry(user: str, resource: Resource, name: str, operation: Operation, *, prefixed: bool) -> tuple[object, ...]:
    return resource, name, _PREFIXED if prefixed else _LITERAL, f"User:{user}", "*", operation, _ALLOW
