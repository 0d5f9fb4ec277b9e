# SPDX-License-Identifier: Apache-2.0
"""Cases of tree digests and OpenSSF bundles."""

from __future__ import annotations

import base64
import hashlib
import json

from cases import KEYS, invalid, key_of, pem, valid

from datapipe.manifest.envelope import Envelope, Signature, pae
from datapipe.manifest.files import FileDigest, Tree
from datapipe.manifest.openssf import write_bundle


def tree_cases():
    def files(*names):
        return [
            {"name": n, "size": len(n), "sha256": hashlib.sha256(n.encode()).hexdigest()}
            for n in names
        ]

    def tree(entries):
        return Tree(tuple(FileDigest(f["name"], f["size"], f["sha256"]) for f in entries)).root

    def case(comment, *names, reason=None, told=None):
        entries = files(*names)
        fields = {"files": entries, "root": tree(told or entries)}
        return invalid(comment, reason, **fields) if reason else valid(comment, **fields)

    two = files("a", "b")
    grown = [{**two[0], "size": 9}, two[1]]
    return [
        case("one file", "a"),
        case("three files", "a", "b", "c/d"),
        case("code points, not path parts", "sub-a", "sub/x"),
        case("a name that is not ASCII", "\u00e9\u4e2d\U0001f600"),
        case("a name with a quote", 'a"b'),
        case("a renamed file", "a", "c", reason="root_mismatch", told=two),
        case("another size", "a", "b", reason="root_mismatch", told=grown),
        case("not sorted", "b", "a", reason="unsorted"),
        case("a name twice", "a", "a", reason="duplicate_name"),
        case("no file", reason="empty_set"),
        case("leaves the folder", "../a", reason="parent_path"),
        case("absolute", "/a", reason="absolute_path"),
        case("absolute elsewhere", "C:/a", reason="absolute_path"),
        case("a backslash", "a\\b", reason="backslash"),
        case("an empty part", "a//b", reason="bad_name"),
        case("a dot part", "./a", reason="bad_name"),
        case("a control character", "a\nb", reason="bad_name"),
    ]


def openssf_cases():
    contents = {"a": b"first", "sub-a": b"second", "sub/x": b""}
    key = KEYS["p256"]

    def digests(files):
        return [FileDigest(n, len(c), hashlib.sha256(c).hexdigest()) for n, c in files.items()]

    def case(comment, data, reason=None, *, files=contents, signer=key):
        shown = {name: content.hex() for name, content in files.items()}
        fields = {"bundle": data.decode(), "keys": pem(signer), "files": shown}
        return invalid(comment, reason, **fields) if reason else valid(comment, **fields)

    good = write_bundle("d", digests(contents), key)
    form = json.loads(good)
    said = json.loads(base64.b64decode(form["dsseEnvelope"]["payload"]))

    def signed(payload):
        """Hostile bundles carry good signatures."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        envelope = Envelope(
            data, signatures=(Signature("", key.sign(pae(Envelope(b"").payload_type, data))),)
        )
        return json.dumps({**form, "dsseEnvelope": envelope.to_json()}).encode()

    def resources(*items, **changes):
        listed = [{"algorithm": "sha256", "digest": "0" * 64, **item} for item in items]
        joined = b"".join(bytes.fromhex(item["digest"]) for item in listed)
        subject = [{"name": "d", "digest": {"sha256": hashlib.sha256(joined).hexdigest()}}]
        predicate = {**said["predicate"], "resources": listed, **changes}
        return signed({**said, "subject": subject, "predicate": predicate})

    def serialized(**changes):
        rules = {**said["predicate"]["serialization"], **changes}
        return signed({**said, "predicate": {**said["predicate"], "serialization": rules}})

    names = [{"name": n} for n in ("a", "b")]
    envelope = form["dsseEnvelope"]
    twice = {**envelope, "signatures": envelope["signatures"] * 2}
    none = {**envelope, "signatures": []}
    changed = {**contents, "a": b"First"}
    fewer = {name: contents[name] for name in ("a", "sub-a")}
    renamed = {("b" if name == "a" else name): content for name, content in contents.items()}
    return [
        *(
            case(f"signed with {n}", write_bundle("d", digests(contents), KEYS[n]), signer=KEYS[n])
            for n in ("p256", "p384", "p521")
        ),
        case("one empty file", write_bundle("d", digests({"e": b""}), key), files={"e": b""}),
        case("an ignore rule that hides nothing", serialized(ignore_paths=[".git", "d.sig"])),
        case("a changed file", good, "changed", files=changed),
        case("a missing file", good, "missing", files=fewer),
        case("an added file", good, "added", files={**contents, "z": b"z"}),
        case("a renamed file", good, "renamed", files=renamed),
        case("another key", good, "wrong_key", signer=key_of("eve", "p256")),
        case(
            "a changed payload",
            json.dumps(
                {
                    **form,
                    "dsseEnvelope": {
                        **envelope,
                        "payload": base64.b64encode(json.dumps(said).encode()).decode(),
                    },
                }
            ).encode(),
            "bad_signature",
        ),
        case(
            "an ignore rule that hides a file",
            serialized(ignore_paths=["evil"]),
            "hidden_file",
            files={**contents, "evil/z": b"z"},
        ),
        case(
            "the v0.1 predicate",
            signed({**said, "predicateType": "https://model_signing/Digests/v0.1"}),
            "legacy_predicate",
        ),
        case(
            "another predicate",
            signed({**said, "predicateType": "https://example.org/v1"}),
            "wrong_predicate",
        ),
        case("two subjects", signed({**said, "subject": said["subject"] * 2}), "subject_count"),
        case(
            "another root",
            signed({**said, "subject": [{"name": "d", "digest": {"sha256": "0" * 64}}]}),
            "root_mismatch",
        ),
        case(
            "two signatures",
            json.dumps({**form, "dsseEnvelope": twice}).encode(),
            "garbage_signature",
        ),
        case("no signature", json.dumps({**form, "dsseEnvelope": none}).encode(), "unsigned"),
        case("not sorted", resources(*names[::-1]), "unsorted"),
        case("a name twice", resources(*names, names[1]), "duplicate_name"),
        case("leaves the folder", resources({"name": "../a"}), "parent_path"),
        case("absolute", resources({"name": "/a"}), "absolute_path"),
        case("a backslash", resources({"name": "a\\b"}), "backslash"),
        case("no file", resources(), "empty_set"),
        case("an unknown hash", resources({"name": "a", "algorithm": "md5"}), "unknown_hash"),
        case("shards", serialized(method="shards"), "serialization"),
        case("an unknown field of the predicate", resources(*names, more=1), "unknown_field"),
        case(
            "an unknown field of the bundle", json.dumps({**form, "more": 1}).encode(), "bad_form"
        ),
        case(
            "a key stands twice",
            good.replace(b'{"mediaType"', b'{"mediaType":"","mediaType"', 1),
            "duplicate_json_key",
        ),
    ]
