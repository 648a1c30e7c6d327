"""Changes of endpoints, credentials and replicas, applied to one worker."""

import logging

from cluster.link import (
    RemoveEndpoint,
    RemoveReplica,
    ResetAll,
    SetKeys,
    SetOwnPods,
    SetTrust,
    UpsertEndpoint,
    UpsertReplica,
)
from cluster.lookup import OwnAddresses
from router.proxy.exchange import Exchange
from router.proxy.gateway import Gateway
from router.proxy.request_observer import ObserverFactory
from serving.credentials import TokenTrust
from serving.endpoint import Auth, Endpoint, Version, VersionKey
from serving.replica import Replica

_log = logging.getLogger("scorefront.router")

RoutingUpdate = (
    ResetAll | UpsertEndpoint | RemoveEndpoint | SetKeys | SetTrust | UpsertReplica | RemoveReplica | SetOwnPods
)


class RoutingUpdates:
    """Applies the routing messages of the control plane to the gateway of a worker."""

    def __init__(self, gateway: Gateway, own: OwnAddresses, observers: ObserverFactory | None = None) -> None:
        """`own`: addresses of this installation, which static replicas may not have. `observers`: None: no request is
        observed."""
        self._gateway = gateway
        self._own = own
        self._observers = observers
        gateway.table.traces = observers is not None and observers.traces

    def apply(self, message: RoutingUpdate) -> None:
        """Apply one message."""
        gateway = self._gateway
        match message:
            case ResetAll():
                self._reset(message)
                gateway.tunnels.review_all()
            case UpsertEndpoint(endpoint):
                self._upsert_endpoint(endpoint)
                gateway.tunnels.review(endpoint.name)
            case RemoveEndpoint(name):
                self._remove_endpoint(name)
                gateway.tunnels.review(name)
            case SetKeys(keys):
                gateway.table.set_keys(keys)
                gateway.tunnels.review(keys.endpoint)
            case SetTrust(trust):
                self._set_trust(trust)
                gateway.tunnels.review_all()
            case UpsertReplica(replica):
                self._upsert_replica(replica)
            case RemoveReplica(replica_id):
                self._own.drop(replica_id)
                gateway.dispatcher.remove(replica_id)
                gateway.pool.close_replica(replica_id)
                gateway.effects.carry_out_all([])
            case SetOwnPods(addresses):
                self._own.set_hosts("pods", addresses)

    def _reset(self, message: ResetAll) -> None:
        gateway = self._gateway
        declared = {endpoint.name for endpoint in message.endpoints}
        for name in gateway.table.names():
            if name not in declared:
                self._remove_endpoint(name)
        self._set_trust(message.trust)
        for keys in message.keys:
            gateway.table.set_keys(keys)
        for endpoint in message.endpoints:
            self._upsert_endpoint(endpoint)
        self._own.set_hosts("pods", message.own_pods)
        listed = {replica.id for replica in message.replicas}
        self._own.keep(listed)
        for replica_id in gateway.dispatcher.known():
            if replica_id not in listed:
                gateway.dispatcher.remove(replica_id)
        for replica in message.replicas:
            self._upsert_replica(replica)

    def _upsert_replica(self, replica: Replica) -> None:
        gateway = self._gateway
        if replica.static:
            self._own.drop(replica.id)
        else:
            self._own.put(replica.id, replica.host, replica.port)
        gateway.effects.carry_out_all(gateway.dispatcher.upsert(replica, gateway.now()))

    def _set_trust(self, trust: TokenTrust) -> None:
        """An unusable signing key must not end the feed: replicas and keys of endpoints matter more."""
        try:
            self._gateway.table.set_trust(trust)
        except ValueError as error:
            _log.error("token issuer %r: keys refused, earlier ones stay trusted: %s", trust.issuer, error)

    def _upsert_endpoint(self, endpoint: Endpoint) -> None:
        before = self._gateway.table.endpoint(endpoint.name)
        self._gateway.table.upsert(endpoint)
        for version in endpoint.versions:
            self._gateway.deadlines.configure(endpoint.name, version)
            self._observe(VersionKey(endpoint.name, version.name), version, before)
            self._record(endpoint, version.name, before)
        self._record(endpoint, "", before)
        if before is not None:
            for version in before.versions:
                if endpoint.version(version.name) is None:
                    self._forget_version(VersionKey(endpoint.name, version.name))

    def _observe(self, key: VersionKey, version: Version, before: Endpoint | None) -> None:
        """Attach or detach the observer of a version whose collection has changed. `before`: its former endpoint."""
        former = before.version(version.name) if before is not None else None
        if self._observers is not None and version.collection != (former.collection if former is not None else None):
            self._gateway.observe(key, self._observers.observer(key, version.collection))

    def _record(self, endpoint: Endpoint, version: str, before: Endpoint | None) -> None:
        """Begin or end to record requests, if that has changed.

        `endpoint`: as declared. `version`: one of its versions; "": requests that reach none. `before`: its former
        declaration.
        """
        known = before is not None and (not version or before.version(version) is not None)
        was = _recorded(before) if before is not None and known else None
        if self._observers is not None and _recorded(endpoint) != was:
            key = VersionKey(endpoint.name, version)
            self._gateway.record(key, self._observers.recorder(endpoint, key))

    def _remove_endpoint(self, name: str) -> None:
        endpoint = self._gateway.table.endpoint(name)
        self._gateway.table.remove(name)
        for version in endpoint.versions if endpoint else ():
            self._forget_version(VersionKey(name, version.name))
        self._end_record(VersionKey(name, ""))
        self._gateway.stats.forget(VersionKey(name, ""))
        self._gateway.failures.forget(name, "")

    def _forget_version(self, key: VersionKey) -> None:
        for ticket, error in self._gateway.dispatcher.forget(key):
            assert isinstance(ticket, Exchange)
            ticket.refuse(error)
        if key in self._gateway.observers:
            self._gateway.observe(key, None)
        self._end_record(key)
        self._gateway.stats.forget(key)
        self._gateway.failures.forget(*key)

    def _end_record(self, key: VersionKey) -> None:
        if key in self._gateway.recorders:
            self._gateway.record(key, None)


def _recorded(endpoint: Endpoint) -> Auth | None:
    """The part of a declaration that recorders depend on; None: requests are not recorded."""
    return endpoint.auth if endpoint.app_insights else None
