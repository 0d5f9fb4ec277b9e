# SPDX-License-Identifier: Apache-2.0
"""What ran on what, row by row: the journal is the truth, the index answers questions.

- `journal/*.log`: append-only, checksummed, chained records; acknowledged once fsynced
- `objects/`: files named by the digest of their bytes
- `log/`: checkpoints over the journal, to be signed and kept elsewhere too
- `lineage.duckdb`: the index in SQL; can always be made again from journal and objects
"""
