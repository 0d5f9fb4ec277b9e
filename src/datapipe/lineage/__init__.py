# SPDX-License-Identifier: Apache-2.0
"""What ran on what, row by row: the journal, its index, its answers."""
