# SPDX-License-Identifier: Apache-2.0
"""Cases of Merkle proofs and checkpoints."""

from __future__ import annotations

from cases import KEYS, OTHER, invalid, pem, valid

from datapipe.manifest.log import Checkpoint
from datapipe.manifest.merkle import EMPTY_ROOT, consistency_proof, inclusion_proof, leaf_hash, root


def leaves_of(size):
    return [leaf_hash(b"entry %d" % number) for number in range(size)]


def inclusion_cases():
    def fields(size, index, /, **changes):
        leaves = leaves_of(size)
        return {
            "leaf": leaves[index].hex(),
            "index": index,
            "size": size,
            "root": root(leaves).hex(),
            "proof": [item.hex() for item in inclusion_proof(leaves, index)],
            **changes,
        }

    seven = leaves_of(7)
    proof = fields(7, 3)["proof"]
    return [
        *(
            valid(f"leaf {i} of {n}", **fields(n, i))
            for n, i in ((1, 0), (2, 1), (7, 3), (7, 6), (64, 63), (65, 64))
        ),
        invalid("another leaf", "log_proof", **fields(7, 3, leaf=seven[4].hex())),
        invalid("another index", "log_proof", **fields(7, 3, index=2)),
        invalid("an index beyond the tree", "log_proof", **fields(7, 3, index=7)),
        invalid("a negative index", "log_proof", **fields(7, 3, index=-1)),
        invalid("another size", "log_proof", **fields(7, 3, size=9)),
        invalid("another root", "log_proof", **fields(7, 3, root=EMPTY_ROOT.hex())),
        invalid("a hash is missing", "log_proof", **fields(7, 3, proof=proof[:-1])),
        invalid("a hash too many", "log_proof", **fields(7, 3, proof=[*proof, proof[0]])),
        invalid("hashes in another order", "log_proof", **fields(7, 3, proof=proof[::-1])),
        invalid("a short hash", "log_proof", **fields(7, 3, proof=[proof[0][:62], *proof[1:]])),
    ]


def consistency_cases():
    def fields(earlier, later, /, **changes):
        leaves = leaves_of(later)
        proof = consistency_proof(leaves, earlier) if earlier else ()
        return {
            "earlier": earlier,
            "earlierRoot": root(leaves[:earlier]).hex(),
            "later": later,
            "laterRoot": root(leaves).hex(),
            "proof": [item.hex() for item in proof],
            **changes,
        }

    rewritten = [leaf_hash(b"rewritten"), *leaves_of(7)[1:]]
    forged = [item.hex() for item in consistency_proof(rewritten, 3)]
    proof = fields(3, 7)["proof"]
    return [
        *(
            valid(f"{a} of {b}", **fields(a, b))
            for a, b in ((0, 0), (0, 5), (1, 2), (3, 7), (4, 7), (6, 8), (8, 8), (63, 65))
        ),
        invalid(
            "the first entry was rewritten",
            "log_proof",
            **fields(3, 7, laterRoot=root(rewritten).hex(), proof=forged),
        ),
        invalid("another earlier root", "log_proof", **fields(3, 7, earlierRoot=EMPTY_ROOT.hex())),
        invalid("another later root", "log_proof", **fields(3, 7, laterRoot=EMPTY_ROOT.hex())),
        invalid("the log shrank", "log_shrunk", **fields(3, 7, later=2)),
        invalid(
            "one size, two roots", "log_proof", **fields(7, 7, laterRoot=root(rewritten).hex())
        ),
        invalid("a hash is missing", "log_proof", **fields(3, 7, proof=proof[:-1])),
        invalid("a hash too many", "log_proof", **fields(3, 7, proof=[*proof, proof[0]])),
        invalid("no proof", "log_proof", **fields(3, 7, proof=[])),
        invalid(
            "an empty log that had entries",
            "log_proof",
            **fields(0, 5, earlierRoot=root(rewritten).hex()),
        ),
    ]


def checkpoint_cases():
    key = KEYS["ed25519"]
    text = Checkpoint("datapipe/reviews", 7, root(leaves_of(7))).sign(key).to_text()
    witnessed = Checkpoint.parse(text).sign(OTHER, name="witness.example").to_text()
    form = "log_checkpoint"
    return [
        valid("one signature", note=text, keys=pem(key)),
        valid("a witness signed too", note=witnessed, keys=pem(key)),
        valid("verified by the witness", note=witnessed, keys=pem(OTHER)),
        valid(
            "an empty log", note=Checkpoint("a", 0, EMPTY_ROOT).sign(key).to_text(), keys=pem(key)
        ),
        invalid("another key", "wrong_key", note=text, keys=pem(OTHER)),
        invalid(
            "another size", "bad_signature", note=text.replace("\n7\n", "\n8\n"), keys=pem(key)
        ),
        invalid("a leading zero", form, note=text.replace("\n7\n", "\n07\n"), keys=pem(key)),
        invalid("a fourth line", form, note=text.replace("\n\n", "\nmore\n\n", 1), keys=pem(key)),
        invalid("no signature", "wrong_key", note=text.partition("\u2014")[0], keys=pem(key)),
        invalid("cut off", form, note=text[:-1], keys=pem(key)),
        invalid("a hyphen for the dash", form, note=text.replace("\u2014", "-"), keys=pem(key)),
        invalid(
            "an origin of two words",
            form,
            note=text.replace("datapipe/reviews\n7", "two words\n7"),
            keys=pem(key),
        ),
    ]
