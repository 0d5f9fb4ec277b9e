# SPDX-License-Identifier: Apache-2.0
"""The scripts that write the vectors are run, not collected."""

from __future__ import annotations

collect_ignore_glob = ["cases.py", "*_cases.py", "make_vectors.py"]
