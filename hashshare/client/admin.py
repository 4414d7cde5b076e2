"""What admins do: edit the registry and sign it, invite, look at members, revoke."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

import msgspec

from hashshare.client.preview import fetch_preview
from hashshare.client.profile import Profile
from hashshare.client.proposal import (
    Proposal,
    RegistryProposal,
    keep_proposal,
    redaction_proposal,
    registry_proposal,
)
from hashshare.client.selecting import Selection, select_spans
from hashshare.client.session import Session
from hashshare.client.trail import fetch_trail
from hashshare.client.verify import Verifier
from hashshare.crypto.envelope import parse_envelope, seal
from hashshare.crypto.keys import PublicKey
from hashshare.crypto.policy import NamedWitness, Policy, policy_of
from hashshare.domain.documents import decode_document, encode_document
from hashshare.domain.hash_sets import HashSet
from hashshare.domain.hashes import HashValue
from hashshare.domain.members import KeyScope, Member, Status
from hashshare.domain.names import format_time
from hashshare.domain.policy import View
from hashshare.domain.registry import Keys, Registry
from hashshare.domain.spans import Span
from hashshare.domain.statements import (
    REDACTION_TYPE,
    SUBMISSION_TYPE,
    Redaction,
    Submission,
    id_of,
    seal_registry,
)
from hashshare.errors import ConflictError, NotFoundError, RegistryConflictError, UnavailableError
from hashshare.wire.lists import PresenceList
from hashshare.wire.members import (
    InvitationList,
    InvitationMade,
    InvitationRequest,
    MemberDocument,
    MemberList,
    RegistryAppended,
    RegistryRequest,
    RevocationRequest,
)
from hashshare.wire.preview import PreviewLine
from hashshare.wire.report import ReportDocument
from hashshare.wire.submissions import RedactionDocument
from hashshare.wire.trail import TrailEntryDocument

_ATTEMPTS: Final = 5

Edit = Callable[[Registry], Registry]


@dataclass(frozen=True, slots=True)
class Admin:
    """Acts for the coalition, with the governance key of the profile."""

    profile: Profile
    session: Session
    verifier: Verifier

    async def registry(self) -> Registry:
        """Return the registry in force, each version signed by those whom the log names."""
        return await self.verifier.registry()

    def governance_after(self, registry: Registry) -> Keys:
        """Return whose signatures the version after ``registry`` needs."""
        recovered = self.profile.trust.governing(registry.version + 1)
        return (recovered or registry).governance

    async def edit(self, edit: Edit, *, reason: str, now: datetime) -> RegistryAppended | None:
        """Change the registry; None when the edit changes nothing.

        Raises:
            NotFoundError: The profile has no governance key, or the edit names nothing.
            MalformedError: The registry would contradict itself.
            SignaturesMissingError: Others must sign it, too; it waits in a file of the profile.
            UnavailableError: Others keep changing it.
        """
        key = self.profile.governance_key()
        for _ in range(_ATTEMPTS):
            current = await self.registry()
            changed = edit(current)
            if msgspec.structs.replace(changed, version=current.version) == current:
                return None
            envelope, document = seal_registry(
                changed, [key], reason=reason, created_at=format_time(now)
            )
            request = RegistryRequest(document=document, envelope=envelope)
            governance = self.governance_after(current)
            proposal = registry_proposal(request, current, governance)
            if proposal.missing:
                raise keep_proposal(self.profile, proposal)
            try:
                return await self.session.send("POST", "/v1/registry", request, RegistryAppended)
            except RegistryConflictError:
                continue
        raise UnavailableError("the registry is being changed by others, try again")

    async def preview(self, edit: Edit, *, most: int | None = None) -> AsyncIterator[PreviewLine]:
        """Yield what an edit would make of the lists, were it published; nothing is changed.

        Args:
            edit: As for ``edit``.
            most: How many changes of each list to be told of; None for all.

        Raises:
            NotFoundError: The edit names nothing, or the profile is no admin's.
            MalformedError: The registry would contradict itself.
            RegistryConflictError: Somebody else changed it in this moment.
            UnavailableError: The server cannot be reached, or makes another preview.
        """
        async for line in fetch_preview(self.session, edit(await self.registry()), most=most):
            yield line

    async def send(self, proposal: Proposal) -> RegistryAppended | RedactionDocument:
        """Put a proposal into force that enough have signed.

        Raises:
            RegistryConflictError: The registry has moved on.
            SignatureInvalidError: Too few have signed it.
        """
        send, data = self.session.send, proposal.encode()
        if isinstance(proposal, RegistryProposal):
            return await send("POST", "/v1/registry", data, RegistryAppended)
        return await send("POST", "/v1/redactions", data, RedactionDocument)

    async def put_member(
        self, member_id: str, member: Member, *, new: bool, now: datetime
    ) -> RegistryAppended | None:
        """Add or replace a member."""
        verb = "add" if new else "change"
        return await self.edit(
            lambda r: r.with_member(member_id, member, new=new),
            reason=f"{verb} member {member_id}",
            now=now,
        )

    async def set_status(
        self, member_id: str, status: Status, *, reason: str, now: datetime
    ) -> RegistryAppended | None:
        """Suspend, revoke or reinstate a member; live connections are cut.

        Raises:
            ConflictError: It is revoked, which is for good.
        """

        def change(registry: Registry) -> Registry:
            member = registry.member(member_id)
            if member.status is Status.REVOKED and status is not Status.REVOKED:
                raise ConflictError(f"member {member_id} is revoked, which is for good")
            return registry.with_member(member_id, msgspec.structs.replace(member, status=status))

        return await self.edit(change, reason=reason, now=now)

    async def approve(self, member_id: str, *, now: datetime) -> RegistryAppended | None:
        """List the submission keys that a member has enrolled.

        Raises:
            NotFoundError: None waits.
        """
        shown = await self.member(member_id)
        pending, scopes = shown.pending_keys, shown.pending_scopes
        if not pending:
            raise NotFoundError(f"no key of member {member_id} waits for approval")
        for text in pending:
            PublicKey.parse(text)

        def add(registry: Registry) -> Registry:
            member = registry.member(member_id)
            keys = tuple(dict.fromkeys((*member.submission_keys, *pending)))
            bounds = dict(member.key_scopes or {}) | {
                key: KeyScope(
                    name=scope.name,
                    hash_sets=msgspec.UNSET if scope.hash_sets is None else tuple(scope.hash_sets),
                )
                for key, scope in scopes.items()
            }
            changed = msgspec.structs.replace(
                member, submission_keys=keys, key_scopes=bounds or msgspec.UNSET
            )
            return registry.with_member(member_id, changed)

        return await self.edit(add, reason=f"approve the keys of {member_id}", now=now)

    async def retire_key(
        self, member_id: str, key: str, *, reason: str, now: datetime
    ) -> RegistryAppended | None:
        """Let a submission key sign nothing more; what it signed until now stays attributed.

        Raises:
            NotFoundError: The member has no such key.
        """
        return await self.edit(lambda r: r.without_key(member_id, key), reason=reason, now=now)

    async def select(self, member_id: str, selection: Selection) -> list[Span]:
        """Return the parts of the log that hold some submissions of a member, and no others.

        Raises:
            NotFoundError: There is none.
            VerificationError: The server gave what the member did not sign.
        """
        follower = self.verifier.follower
        history = (await follower.follow()).history
        return await select_spans(follower, history, member_id, selection)

    async def add_witness(
        self, witness: NamedWitness, threshold: int | None, *, now: datetime
    ) -> str:
        """Demand one more witness; return the trust policy, which is then in force.

        Args:
            witness: Its name is new.
            threshold: How many must cosign; None for the smallest number that is safe.
            now: Aware.

        Raises:
            MalformedError: The policy would contradict itself.
            KeyUnsafeError: The key is unsafe, or listed already.
        """
        return await self._choose(
            lambda policy: policy_of(
                policy.logs[0], [*policy.voters, witness], threshold, policy.auditors
            ),
            f"witness {witness.name} is added",
            now,
        )

    async def add_auditor(self, auditor: NamedWitness, *, now: datetime) -> str:
        """List whose audits members are shown; return the trust policy, which is then in force.

        No quorum counts it, and nothing waits for it.

        Raises:
            MalformedError: The policy would contradict itself.
            KeyUnsafeError: The key is unsafe, or listed already.
        """
        return await self._choose(
            lambda policy: policy_of(
                policy.logs[0], policy.voters, policy.threshold, [*policy.auditors, auditor]
            ),
            f"auditor {auditor.name} is added",
            now,
        )

    async def remove_witness(self, name: str, threshold: int | None, *, now: datetime) -> str:
        """Demand a witness, or list an auditor, no more; return the trust policy then in force.

        Raises:
            NotFoundError: There is no such witness or auditor.
            MalformedError: The policy would contradict itself.
        """

        def without(policy: Policy) -> Policy:
            voters = [witness for witness in policy.voters if witness.name != name]
            auditors = [auditor for auditor in policy.auditors if auditor.name != name]
            if len(voters) + len(auditors) == len(policy.witnesses):
                raise NotFoundError(f"there is no witness {name!r:.70}")
            kept = policy.threshold if len(voters) == len(policy.voters) else threshold
            return policy_of(policy.logs[0], voters, kept, auditors)

        return await self._choose(without, f"{name} is removed from the witnesses", now)

    async def _choose(self, choose: Callable[[Policy], Policy], reason: str, now: datetime) -> str:
        log, chosen = self.profile.trust.log_verifier, [""]

        def change(registry: Registry) -> Registry:
            known = registry.cosigners
            policy = Policy((log,)) if known is None else replace(known, logs=(log,))
            changed = registry.with_witnesses(choose(policy))
            chosen[0] = changed.witnesses
            return changed

        await self.edit(change, reason=reason, now=now)
        return chosen[0]

    async def name_log_key(self, *, now: datetime) -> bool:
        """Have the policy for witnesses name the log's key in force; return whether it is news."""
        log = self.profile.trust.log_verifier

        def change(registry: Registry) -> Registry:
            known = registry.cosigners
            if known is None:
                return registry
            return registry.with_witnesses(replace(known, logs=(log,)))

        return await self.edit(change, reason="the log's key is replaced", now=now) is not None

    async def redact(self, log_index: int, *, reason: str, now: datetime) -> RedactionDocument:
        """Have the batch of the submission at a leaf deleted; the log says so, and why.

        Raises:
            NotFoundError: There is no submission at that leaf.
            ConflictError: Something of it is in force; it must be withdrawn first.
            SignaturesMissingError: Others must sign it, too; it waits in a file of the profile.
        """
        _, leaf = await self.session.request("GET", f"/v1/log/entries/{log_index}")
        submission = parse_envelope(leaf)
        if submission.payload_type != SUBMISSION_TYPE:
            raise NotFoundError(f"leaf {log_index} is no submission")
        redaction = Redaction(
            batch=decode_document(submission.payload, Submission).batch.sha256,
            created_at=format_time(now),
            log=self.profile.trust.log,
            reason=reason,
            submission=id_of(submission),
        )
        key = self.profile.governance_key()
        envelope = seal(encode_document(redaction), REDACTION_TYPE, [key]).encode()
        proposal = redaction_proposal(envelope, (await self.registry()).governance)
        if proposal.missing:
            raise keep_proposal(self.profile, proposal)
        return await self.session.send("POST", "/v1/redactions", envelope, RedactionDocument)

    async def put_hash_set(
        self, hash_set_id: str, hash_set: HashSet, *, new: bool, now: datetime
    ) -> RegistryAppended | None:
        """Add or replace a hash set."""
        verb = "create" if new else "change"
        return await self.edit(
            lambda r: r.with_hash_set(hash_set_id, hash_set, new=new),
            reason=f"{verb} hash set {hash_set_id}",
            now=now,
        )

    async def put_view(
        self, hash_set_id: str, view_id: str, view: View | None, *, now: datetime
    ) -> RegistryAppended | None:
        """Add or replace a view, or delete it when ``view`` is None."""
        verb = "delete" if view is None else "set"
        return await self.edit(
            lambda r: r.with_view(hash_set_id, view_id, view),
            reason=f"{verb} view {hash_set_id}/{view_id}",
            now=now,
        )

    async def invite(self, member_id: str, *, label: str, hours: int) -> InvitationMade:
        """Return a new invitation for a member of the registry."""
        request = InvitationRequest(member=member_id, label=label, expires_in_hours=hours)
        return await self.session.send("POST", "/v1/invitations", request, InvitationMade)

    async def invitations(self) -> InvitationList:
        """Return all invitations, without their secrets."""
        return await self.session.get("/v1/invitations", InvitationList)

    async def cancel_invitation(self, invitation_id: str) -> None:
        """Make an invitation invalid."""
        await self.session.request("DELETE", f"/v1/invitations/{invitation_id}")

    async def members(self) -> MemberList:
        """Return all members."""
        return await self.session.get("/v1/members", MemberList)

    async def member(self, member_id: str) -> MemberDocument:
        """Return one member."""
        return await self.session.get(f"/v1/members/{member_id}", MemberDocument)

    async def trail(
        self,
        *,
        member: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        last: int | None = None,
    ) -> AsyncIterator[TrailEntryDocument]:
        """Yield entries of the audit trail, the oldest first; for admins and auditors.

        Args:
            member: Only of this one.
            kind: Only of this kind: submission, pull, act or refusal.
            since: None before, aware.
            until: None from here on, aware.
            last: The newest so many, and then the newest first; None for all.

        Raises:
            NotFoundError: The profile is neither an admin's nor an auditor's.
            MalformedError: There is no such kind.
        """
        chosen = {
            "member": member,
            "kind": kind,
            "since": None if since is None else format_time(since),
            "until": None if until is None else format_time(until),
            "order": None if last is None else "newest",
        }
        async for entry in fetch_trail(self.session, chosen, most=last):
            yield entry

    async def report(self, begin: datetime, end: datetime) -> ReportDocument:
        """Return the transparency report of a time; for admins and auditors.

        Raises:
            NotFoundError: The profile is neither an admin's nor an auditor's.
            MalformedError: The time is empty.
        """
        query = urlencode({"from": format_time(begin), "to": format_time(end)})
        return await self.session.get(f"/v1/report?{query}", ReportDocument)

    async def presence(self, hash_set: str, value: HashValue) -> PresenceList:
        """Return when a hash left each list, and who was sent a version that has it.

        Raises:
            NotFoundError: No list of the hash set ever held it, or the profile is no admin's.
        """
        path = f"/v1/hash-sets/{hash_set}/hashes/{value.algorithm}/{value.value.hex()}/holders"
        return await self.session.get(path, PresenceList)

    async def revoke_certificate(self, member_id: str, fingerprint: str, *, reason: str) -> None:
        """Revoke one certificate of a member."""
        await self.session.request(
            "POST",
            f"/v1/members/{member_id}/certificates/{fingerprint}/revoke",
            body=RevocationRequest(reason=reason).encode(),
        )
