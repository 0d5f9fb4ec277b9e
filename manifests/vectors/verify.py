# SPDX-License-Identifier: Apache-2.0
"""A second verifier of our vectors: the standard library and cryptography, none of our code.
`python verify.py [FOLDER]` prints one line a file and exits 1 when a case comes out otherwise."""
import base64, hashlib, json, math, re, sys  # 150 lines, read in one sitting
from decimal import Decimal
from pathlib import Path, PurePosixPath
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
CURVES = {256: hashes.SHA256, 384: hashes.SHA384, 521: hashes.SHA512}
BLOCK = r"-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----\s?"
NOTE = r"(([^\s+]+)\n(0|[1-9]\d*)\n(\S{44})\n)\n((?:\u2014 [^\s+]+ \S+\n)*)"
def need(condition):
    if not condition: raise ValueError("refused")
def depth(value):  # JSON is read without guessing, and written as RFC 8785 says
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0) if isinstance(value, dict | list) else 0
def strict(data):
    def once(items):
        return need(len(dict(items)) == len(items)) or dict(items)
    def number(text):
        v, whole = float(text), re.fullmatch(r"-?\d+", text)
        need(math.isfinite(v) and (not whole or abs(v) < 2**53 or ecmascript(v) == text))
        return int(text) if whole and abs(v) < 2**53 else v
    hooks = {"parse_float": number, "parse_int": number, "parse_constant": lambda _: need(False)}
    found = json.loads(data.decode(), object_pairs_hook=once, **hooks)
    json.dumps(found, ensure_ascii=False).encode()  # no half surrogate pair
    return need(depth(found) <= 65) or found
def ecmascript(x):
    sign, digits, exponent = Decimal(repr(x)).as_tuple()
    text, minus = "".join(map(str, digits)).lstrip("0"), "-" * sign
    n, text = len(text) + exponent, text.rstrip("0")
    if x == 0 or len(text) <= n <= 21:
        return minus + text + "0" * (n - len(text)) if x else "0"
    if -6 < n <= 21:
        return minus + (text[:n] + "." + text[n:] if n > 0 else "0." + "0" * -n + text)
    return minus + text[0] + ("." + text[1:] if text[1:] else "") + f"e{n - 1:+d}"
def canonical(value):
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(canonical(key) + ":" + canonical(value[key]) for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return ecmascript(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
# --- keys by their securesystemslib id, signatures, DSSE envelopes
def keys_of(pem):
    found, spki = {}, serialization.PublicFormat.SubjectPublicKeyInfo
    for block in re.findall(BLOCK, pem):
        key = serialization.load_pem_public_key(block.encode())
        public = key.public_bytes(serialization.Encoding.PEM, spki).decode()
        kind, scheme = "ml-dsa", "ml-dsa-65/1"
        if isinstance(key, ed25519.Ed25519PublicKey):
            kind, scheme, public = "ed25519", "ed25519", key.public_bytes_raw().hex()
        elif isinstance(key, ec.EllipticCurvePublicKey):
            kind, scheme = "ecdsa", f"ecdsa-sha2-nistp{key.key_size}"
        text = f'{{"keytype":"{kind}","keyval":{{"public":"{public}"}},"scheme":"{scheme}"}}'
        found[hashlib.sha256(text.encode()).hexdigest()] = key
    return found
def fits(key, sig, message):
    curve = isinstance(key, ec.EllipticCurvePublicKey)
    if not curve and not isinstance(key, ed25519.Ed25519PublicKey):
        message = b"tuf\x01" + hashlib.sha512(message).digest()
    how = [ec.ECDSA(CURVES[key.key_size]())] if curve else []
    try: return key.verify(sig, message, *how) is None
    except InvalidSignature: return False
def b64(text):
    need(base64.b64encode(base64.b64decode(text, validate=True)).decode() == text)
    return base64.b64decode(text)
def opened(form, keys, threshold=1):
    need(set(form) == {"payload", "payloadType", "signatures"})
    payload, kind = b64(form["payload"]), form["payloadType"].encode()
    message, signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload), set()
    for item in form["signatures"]:
        need(set(item) <= {"keyid", "sig"})
        named = {i: k for i, k in keys.items() if item.get("keyid", "") in ("", i)}
        by = {i for i, key in named.items() if fits(key, b64(item["sig"]), message)}
        need(by and not by & signed)
        signed |= by
    return need(len(signed) >= threshold) or payload
# --- Merkle trees (RFC 6962, from the top), and names of files
def node(left, right): return hashlib.sha256(b"\x01" + left + right).digest()
def tree_root(leaves):
    k = 1 << max(len(leaves) - 1, 0).bit_length() >> 1
    few = leaves[0] if leaves else hashlib.sha256(b"").digest()
    return node(tree_root(leaves[:k]), tree_root(leaves[k:])) if len(leaves) > 1 else few
def included(leaf, i, n, proof):
    k, other = 1 << (n - 1).bit_length() >> 1, proof.pop() if n > 1 else b""
    lower = included(leaf, i % k, k if i < k else n - k, proof) if n > 1 else leaf
    return lower if n == 1 else node(lower, other) if i < k else node(other, lower)
def consistent(m, n, proof, old, whole=True):
    k = 1 << (n - 1).bit_length() >> 1
    if m == n:
        return (old, old) if whole else (proof.pop(0),) * 2
    first, second = consistent(m - k * (m > k), (k, n - k)[m > k], proof, old, whole and m <= k)
    other = proof.pop(0)
    return (first, node(second, other)) if m <= k else (node(other, first), node(other, second))
def sound(names):
    need(names and len(set(names)) == len(names))
    need(not any(re.search(r"^/|^[A-Za-z]:|\\|[\x00-\x1f\x7f]", name) for name in names))
    need(not any({"", ".", ".."} & set(name.split("/")) for name in names))
    return sorted(names), sorted(names, key=lambda name: PurePosixPath(name).parts)
def check_canonical_json(t): need(canonical(strict(bytes.fromhex(t["input"]))) == t["expected"])
def check_key_id(t): need([*keys_of(t["public"])] == [t["keyid"]] and t["public"].count("N P") < 2)
def check_dsse(t): opened(strict(t["envelope"].encode()), keys_of(t["keys"]), t["threshold"])
def check_merkle_inclusion(t):
    leaf, root, *proof = map(bytes.fromhex, [t["leaf"], t["root"], *t["proof"]])
    need(0 <= t["index"] < t["size"] and all(len(h) == 32 for h in proof))
    need(included(leaf, t["index"], t["size"], proof) == root and not proof)
def check_merkle_consistency(t):
    old, new, *proof = map(bytes.fromhex, [t["earlierRoot"], t["laterRoot"], *t["proof"]])
    need(0 <= t["earlier"] <= t["later"])
    both = t["earlier"] and consistent(t["earlier"], t["later"], proof, old) or (tree_root([]), new)
    need(both == (old, new) and not proof)
def check_checkpoint(t):
    found, held = re.fullmatch(NOTE, t["note"]), 0
    for _, name, blob in (line.split(" ") for line in found[5].splitlines()):
        for key in keys_of(t["keys"]).values():
            public = name.encode() + b"\n\x01" + key.public_bytes_raw()
            if b64(blob)[:4] == hashlib.sha256(public).digest()[:4]:
                held += need(fits(key, b64(blob)[4:], found[1].encode())) or 1
    need(held and len(b64(found[4])) == 32)
def check_tree(t):
    need([file["name"] for file in t["files"]] == sound([file["name"] for file in t["files"]])[0])
    leaves = [hashlib.sha256(b"\0" + canonical(file).encode()).digest() for file in t["files"]]
    need(tree_root(leaves).hex() == t["root"])
def check_openssf(t):
    form = strict(t["bundle"].encode())
    need(set(form) == {"mediaType", "verificationMaterial", "dsseEnvelope"})
    said = strict(opened(form["dsseEnvelope"], keys_of(t["keys"])))
    need(len(form["dsseEnvelope"]["signatures"]) == len(said["subject"]) == 1)
    need(said["predicateType"] == "https://model_signing/signature/v1.0")
    need(set(said["predicate"]) == {"resources", "serialization"})
    rules, listed = said["predicate"]["serialization"], said["predicate"]["resources"]
    need(rules["method"] == "files" and {item["algorithm"] for item in listed} == {"sha256"})
    need([item["name"] for item in listed] in sound([item["name"] for item in listed]))
    joined = b"".join(bytes.fromhex(item["digest"]) for item in listed)
    need(said["subject"][0]["digest"]["sha256"] == hashlib.sha256(joined).hexdigest())
    there = {n: hashlib.sha256(bytes.fromhex(c)).hexdigest() for n, c in t["files"].items()}
    need(there == {item["name"]: item["digest"] for item in listed})
def holds(kind, test):
    try: return globals()[f"check_{kind}"](test) is None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError): return False
if __name__ == "__main__":
    wrong, named = 0, [*sys.argv[1:], Path(__file__).parent]
    for path in sorted(Path(named[0]).glob("*.json")):
        form = json.loads(path.read_text(encoding="utf-8"))
        tests = [test for group in form["testGroups"] for test in group["tests"]]
        bad = [t["tcId"] for t in tests if holds(form["algorithm"], t) != (t["result"] == "valid")]
        wrong += print(f"{path.name}: {len(tests)} cases, disagreeing: {bad or 'none'}") or len(bad)
    sys.exit(wrong > 0)
