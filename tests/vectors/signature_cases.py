# SPDX-License-Identifier: Apache-2.0
"""Cases of canonical JSON, key ids and envelopes."""

from __future__ import annotations

import base64
import hashlib
import json

from cases import KEYS, OTHER, invalid, pem, valid

from datapipe.manifest.canonical import canonical_json
from datapipe.manifest.envelope import Envelope, Signature, pae
from datapipe.manifest.predicates import DatasetPredicate
from datapipe.manifest.statement import Subject


def canonical_cases():
    def case(text, comment, reason=None):
        data = text if isinstance(text, bytes) else text.encode()
        if reason:
            return invalid(comment, reason, input=data.hex())
        return valid(comment, input=data.hex(), expected=canonical_json(json.loads(data)).decode())

    return [
        case('{"b":1,"a":2}', "keys are sorted"),
        case(' { "a" : [ 1 , 2 ] } ', "white space is left out"),
        case('{"\\u20ac":1,"\\ud83d\\ude00":2,"\\ufb33":3}', "keys are sorted by UTF-16 units"),
        case('"\\u000f\\n\\"\\\\\\/\\u00e9"', "only what must be escaped is escaped"),
        case("[1.0,-0.0,1e21,1e-7,0.000001,5e-324]", "numbers are printed as ECMAScript does"),
        case("[9007199254740991,4.5,333333333.33333329]", "shortest digits that read back"),
        case("[null,true,false,{},[]]", "literals and empty containers"),
        case('{"a":1,"a":1}', "a key stands twice", "duplicate_json_key"),
        case('{"a":1,"\\u0061":2}', "a key stands twice, once escaped", "duplicate_json_key"),
        case('[{"x":{"k":0,"k":0}}]', "a key stands twice deep inside", "duplicate_json_key"),
        case("[NaN]", "NaN is no JSON number", "bad_number"),
        case("[-Infinity]", "an infinity is no JSON number", "bad_number"),
        case("[1e999]", "larger than a double", "bad_number"),
        case("[9007199254740993]", "an integer that no double holds", "bad_number"),
        case("[" * 70 + "]" * 70, "nested deeper than 64 levels", "too_deep"),
        case('"\\ud800"', "half a surrogate pair", "not_json"),
        case(b'"\xff"', "not UTF-8", "not_json"),
        case(b"\xef\xbb\xbf{}", "a byte order mark", "not_json"),
        case("{} {}", "something after the end", "not_json"),
    ]


def key_id_cases():
    cases = [
        valid(f"the id of a {name} key", public=pem(key), keyid=key.keyid)
        for name, key in KEYS.items()
    ]
    wrong = hashlib.sha256(pem(KEYS["p256"]).encode()).hexdigest()
    crlf = pem(KEYS["p256"]).replace("\n", "\r\n")
    return [
        *cases,
        invalid(
            "the hash of the PEM is not the id", "key_form", public=pem(KEYS["p256"]), keyid=wrong
        ),
        invalid("the id of another key", "key_form", public=pem(OTHER), keyid=KEYS["p256"].keyid),
        invalid("no key", "key_form", public="hello", keyid=OTHER.keyid),
        invalid("two keys", "key_form", public=pem(OTHER) * 2, keyid=OTHER.keyid),
        valid("line ends of another system", public=crlf, keyid=KEYS["p256"].keyid),
    ]


def dsse_cases():
    said = DatasetPredicate("reviews").about(Subject("a", {"sha256": "a" * 64}))
    payload, everybody = said.to_bytes(), tuple(KEYS.values())
    good = Envelope.sign(payload, KEYS["ed25519"], KEYS["p256"])
    first, second = good.signatures

    def case(comment, envelope, keys, reason=None, *, threshold=1, text=None):
        shown = text if text is not None else envelope.to_bytes().decode()
        fields = {"envelope": shown, "keys": pem(*keys), "threshold": threshold}
        return invalid(comment, reason, **fields) if reason else valid(comment, **fields)

    def with_signatures(*signatures, body=payload, kind=good.payload_type):
        return Envelope(body, kind, signatures)

    flipped = Signature(second.keyid, bytes([second.sig[0], second.sig[1] ^ 1]) + second.sig[2:])
    both = (KEYS["ed25519"], KEYS["p256"])
    text = good.to_bytes().decode()
    pure = KEYS["ml-dsa-65"].raw.sign(pae(good.payload_type, payload))
    unpadded = base64.b64encode(first.sig).decode()
    return [
        *(case(f"one {n} signature", Envelope.sign(payload, k), [k]) for n, k in KEYS.items()),
        case(
            "five algorithms sign together",
            Envelope.sign(payload, *everybody),
            everybody,
            threshold=5,
        ),
        case("two of two", good, both, threshold=2),
        case("a signature without keyid", with_signatures(Signature("", first.sig)), both),
        case("an empty payload", Envelope.sign(b"", OTHER), [OTHER]),
        case("another media type", Envelope.sign(b"x", OTHER, payload_type="text/plain"), [OTHER]),
        case(
            "one changed byte of payload",
            with_signatures(first, body=payload + b" "),
            both,
            "bad_signature",
        ),
        case(
            "another payload type", with_signatures(first, kind="text/plain"), both, "bad_signature"
        ),
        case("the signature of another key", Envelope.sign(payload, OTHER), both, "wrong_key"),
        case(
            "signed under another's id",
            with_signatures(Signature(OTHER.keyid, first.sig)),
            [OTHER],
            "bad_signature",
        ),
        case(
            "a false second signature", with_signatures(first, flipped), both, "garbage_signature"
        ),
        case("a second signature by nobody known", good.add(OTHER), both, "unknown_signer"),
        case("one key twice", with_signatures(first, first), both, "duplicate_signature"),
        case(
            "one key twice, once without id",
            with_signatures(first, Signature("", first.sig)),
            both,
            "duplicate_signature",
        ),
        case("one of two", with_signatures(first), both, "threshold", threshold=2),
        case("no signature", with_signatures(), both, "unsigned"),
        case(
            "ML-DSA over the message itself, not by TAP 21",
            with_signatures(Signature(KEYS["ml-dsa-65"].keyid, pure)),
            everybody,
            "bad_signature",
        ),
        case(
            "signed payload without its encoding",
            with_signatures(Signature(OTHER.keyid, OTHER.sign(payload))),
            [OTHER],
            "bad_signature",
        ),
        case(
            "a key stands twice",
            good,
            both,
            "duplicate_json_key",
            text=text.replace('{"payload"', '{"payload":"","payload"', 1),
        ),
        case(
            "an unknown field",
            good,
            both,
            "bad_form",
            text=text.replace('{"payload"', '{"more":1,"payload"', 1),
        ),
        case(
            "base64 without padding",
            good,
            both,
            "bad_form",
            text=text.replace(unpadded, unpadded.rstrip("=")),
        ),
        case(
            "base64 with a line break",
            good,
            both,
            "bad_form",
            text=text.replace(unpadded, unpadded[:8] + "\\n" + unpadded[8:]),
        ),
        case("a list", good, both, "bad_form", text="[]"),
    ]
